"""`--verify`: images are read twice; what both readings agree on needs no person, and nothing of it is paid twice."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from config.job import Job
from flows.analyze_images import analyze_images
from tasks.asking.priced import worst_case
from tasks.asking.probe import one_patch
from tasks.planning.plan import make_plan
from tasks.simulator import Simulator
from tasks.simulator.rules import MessagesRequest
from tests.asking import prices
from tests.misreading import Misreading, schema_file, truths_of
from tests.runs import draw, rows

pytestmark = pytest.mark.usefixtures("prefect_server")

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw(tmp_path / "images", 50)


@pytest.fixture
def reader(images: Path, monkeypatch: pytest.MonkeyPatch) -> Misreading:
    """Haiku misreads every fifth picture, Sonnet every twentieth; one in twenty is misread by all alike."""
    made = Misreading(truths_of(images), {HAIKU: 0.2, SONNET: 0.05}, hard=0.05, seed=4)
    return made.install(monkeypatch)


def run(images: Path, output: Path, **options: Any) -> dict[str, Any]:
    job = Job(name="verified", answer_schema=schema_file(output.parent / "schemas"), **options)
    return analyze_images(str(images), str(output), job)


def differs(results: pd.DataFrame, truths: dict[str, Any], field: str) -> pd.Series:
    """Which rows hold another value than the picture's in this field."""
    wanted = [truths[sent][field] for sent in results["sent_sha256"]]
    given = [result[field] for result in results["result"]]
    return pd.Series([type(w)(g) != w for w, g in zip(wanted, given, strict=True)], index=results.index)


@pytest.mark.parametrize("verify", [SONNET, "again"])
def test_disagreement_finds_most_errors_and_shows_each_field(
    simulator: Simulator, images: Path, reader: Misreading, tmp_path: Path, verify: str
) -> None:
    """The trial with known errors: what share of rows is flagged, what share of the wrong ones is among them.

    Two readings that err by chance may still agree on the same wrong value: in this draw of errors none do, in others
    `again` misses one in ten (flows/README.md).
    """
    truths = truths_of(images)
    summary = run(images, tmp_path / "out", verify=verify)
    results, calls = rows(summary), rows(summary, "calls")

    flagged = results["needs_review"].astype(bool)
    misread, hard = differs(results, truths, "total"), differs(results, truths, "company")
    assert misread.sum() >= 6 and hard.sum() >= 1
    assert flagged[misread].all(), "an error of one reading shows in the other"
    assert not flagged[hard & ~misread].any(), "one that every reader makes does not"
    assert misread.sum() <= flagged.sum() <= 25  # of 50: the second reading has errors of its own

    for _, row in results[flagged].iterrows():
        agreement = row["agreement"]
        assert agreement["date"] == agreement["company"] == 1.0 and agreement["total"] == 0.0
        assert json.loads(row["second_answer"])["total"] != pytest.approx(float(row["result"]["total"]))
    assert all(set(one.values()) == {1.0} for one in results[~flagged]["agreement"])

    assert list(calls.groupby("step").size()) == [50, 50] and set(calls["step"]) == {-1, 0}
    assert set(calls[calls["step"] == -1]["model"]) == {HAIKU if verify == "again" else SONNET}
    assert set(calls["attempt"]) == {1}
    assert results["cost_usd"].sum() == calls["cost_usd"].sum() == simulator.ledger().cost_usd
    assert summary["cost_usd"] == float(simulator.ledger().cost_usd)
    assert (summary["read_twice"], summary["needs_review"], summary["ok"]) == (50, flagged.sum(), 50)
    assert summary["status"] == "completed"
    report = Path(summary["report"]).read_text()
    assert f"{flagged.sum()} to review" in report and report.count("Needs review.") == flagged.sum()


def test_the_second_reading_is_kept_capped_and_resumed(
    simulator: Simulator, images: Path, reader: Misreading, tmp_path: Path
) -> None:
    for path in sorted(images.iterdir())[12:]:
        path.unlink()
    plain = run(images, tmp_path / "out")
    assert (plain["calls"], plain["needs_review"]) == (12, 0)
    assert rows(plain)["needs_review"].isna().all(), "not asked for: nothing is said of it"

    job = Job(answer_schema=schema_file(tmp_path / "schemas"), verify="again")
    (second,) = make_plan(str(images), str(tmp_path / "out"), job).second
    cap = worst_case(second.question, one_patch(), prices()) + Decimal(5 * plain["cost_usd"] / 12)
    cap = cap.quantize(Decimal("0.000001"))
    few = run(images, tmp_path / "out", verify="again", max_cost=cap, concurrency=1)
    assert few["status"] == "paused" and few["cost_usd"] <= cap
    assert 0 < few["calls"] < 12 and few["statuses"].keys() <= {"ok", "unasked"}, "kept first answers stand"
    assert few["needs_review"] >= few["ok"] - few["calls"] > 0, "what was to be read twice and was not needs a look"

    rest = run(images, tmp_path / "out", verify="again")
    assert (rest["status"], rest["calls"], rest["read_twice"]) == ("completed", 12 - few["calls"], 12)
    again = run(images, tmp_path / "out", verify="again")
    assert (again["calls"], again["read_twice"], again["needs_review"]) == (0, 12, rest["needs_review"])
    assert simulator.ledger().requests == 24
    assert again["saved_usd"] == pytest.approx(float(simulator.ledger().cost_usd)), "both readings were kept"

    other = run(images, tmp_path / "out", verify=SONNET)
    assert other["calls"] == 12
    with_sonnet = run(images, tmp_path / "out", model=SONNET)
    assert with_sonnet["calls"] == 0, "a reading by another model is that model's own answer"


def test_a_second_reading_that_fails_loses_nothing(
    simulator: Simulator, images: Path, reader: Misreading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(images.iterdir())[3:]:
        path.unlink()
    true_answer = reader.answer
    bad = {SONNET: "no JSON at all"}
    reader.rates = {HAIKU: 0.0, SONNET: 0.0}
    monkeypatch.setattr(
        "tasks.simulator.service.answer_text",
        lambda asked, read: bad.get(asked.asked_model) or true_answer(asked, read),
    )
    summary = run(images, tmp_path / "out", verify=SONNET)
    results = rows(summary)
    assert list(results["status"]) == ["ok"] * 3 and results["needs_review"].all()
    assert results["agreement"].isna().all() and set(results["second_answer"]) == {"no JSON at all"}
    assert (summary["read_twice"], summary["needs_review"], summary["status"]) == (0, 3, "completed")

    bad.clear()
    simulator.set_faults("500=1")
    down = run(images, tmp_path / "out", verify="again", attempts=1)
    assert (down["status"], down["needs_review"], down["ok"]) == ("completed", 3, 3)
    simulator.set_faults()
    up = run(images, tmp_path / "out", verify="again")
    assert (up["needs_review"], up["read_twice"], up["calls"]) == (0, 3, 3), "tried again by the next run"


def test_what_cannot_be_verified_is_said_before_anything_is_paid(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 1)
    for options, why in (
        ({"verify": "again"}, "--verify compares two readings field by field"),
        ({"verify": "claude-nonsense", "answer_schema": "receipt"}, "claude-nonsense"),
    ):
        with pytest.raises(Exception, match=why):
            make_plan(str(images), str(tmp_path / "out"), Job(**options))
    assert simulator.ledger().requests == 0


@pytest.mark.all
def test_second_readings_are_a_batch_of_their_own(
    simulator: Simulator, images: Path, reader: Misreading, tmp_path: Path
) -> None:
    for path in sorted(images.iterdir())[4:]:
        path.unlink()
    simulator.change(batch_latency=0.2)
    summary = run(images, tmp_path / "out", verify="again", mode="batch")
    calls = rows(summary, "calls")
    assert (summary["ok"], summary["read_twice"], summary["batch_requests"]) == (4, 4, 8)
    assert set(calls["tier"]) == {"batch"} and sorted(calls["step"]) == [-1] * 4 + [0] * 4
    assert summary["cost_usd"] == float(simulator.ledger().cost_usd)


def test_only_doubtful_answers_are_read_again(
    simulator: Simulator, images: Path, reader: Misreading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 images three are hard to read and one needs a fallback: four second readings, a fifth of the price."""
    for path in sorted(images.iterdir())[20:]:
        path.unlink()
    reader.rates, reader.hard = {HAIKU: 0.0}, 0.0
    blurred, broken = list(reader.truths)[:3], list(reader.truths)[3]

    def answer(question: MessagesRequest, read: str | None) -> str:
        sent = question.images[0].sha256
        value = json.loads(reader.answer(question, read))
        if sent in blurred and reader.asked[sent, HAIKU] == 1:
            value["company"] = "M[?]ll"
        return "no JSON" if sent == broken and "Again" not in question.text else json.dumps(value)

    monkeypatch.setattr("tasks.simulator.service.answer_text", answer)
    options: dict[str, Any] = {"verify": "again", "fallback_prompt": ("Again, please",)}
    few = run(images, tmp_path / "out", verify_below=1, **options)
    results, calls = rows(few), rows(few, "calls")
    assert (few["ok"], few["read_twice"], few["calls"]) == (20, 4, 20 + 1 + 4)
    again = set(calls[calls["step"] == -1]["sent_sha256"])
    assert again == {*blurred, broken}
    flagged = results[results["needs_review"].astype(bool)]
    assert set(flagged["sent_sha256"]) == set(blurred), "the fallback's answer was the same twice"
    assert set(results["needs_review"]) == {True, False}, "null nowhere: each row was looked at"

    lax = run(images, tmp_path / "out", verify_below=0.5, **options)
    assert (lax["calls"], lax["read_twice"], lax["needs_review"]) == (0, 1, 0), "one field of three is let pass"
    whole = run(images, tmp_path / "out", **options)
    assert (whole["calls"], whole["read_twice"]) == (16, 20), "the rest, and nothing twice"
    assert simulator.ledger().requests == 41
    with pytest.raises(Exception, match="--verify-below says which"):
        make_plan(str(images), str(tmp_path / "out"), Job(answer_schema="receipt", verify_below=1))
