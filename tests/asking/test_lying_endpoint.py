"""An endpoint that lies: whatever it says under a 200, the call is closed, the row is there and nothing is poisoned."""

import json
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.asking.answer import Answer
from tasks.asking.leftovers import leftovers
from tasks.asking.pages import Outcome
from tasks.asking.priced import worst_case
from tasks.recording.tables import CALLS
from tasks.simulator import Simulator
from tasks.simulator.lies import LIES, RAW
from tests.asking import asking, pages, prepared, prices, question, steps

# Lies about what an answer cost: its text is used, and nobody knows the price.
ABOUT_USAGE = [name for name in LIES if name.startswith(("usage_", "cached_", "written_", "lifetimes_", "thinking_"))]
ABOUT_USAGE += ["tools_list", "tier_number", "place_list"]
# Lies about a name: the text is used, the price is known, the column is empty.
ABOUT_NAMES = ["model_object", "model_long", "stop_number", "stop_list"]
USELESS = [name for name in [*LIES, *RAW] if name not in [*ABOUT_USAGE, *ABOUT_NAMES, "id_number", "content_empty"]]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.asking.caller.BACKOFF_S", (0.01,))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def ask_once(simulator: Simulator, folder: Path, *faults: str, **settings: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    simulator.set_faults(script=list(faults))
    with asking(simulator.url, folder, **settings) as asked:
        (outcome,) = asked.ask(pages(1), attempts=5)
        assert asked.engine.halt is None, "one answer does not stop a run"
    return outcome, asked.calls


@pytest.mark.parametrize("lie", ABOUT_USAGE)
def test_where_usage_cannot_be_true_the_text_is_used_and_the_price_unknown(
    simulator: Simulator, tmp_path: Path, lie: str
) -> None:
    outcome, (call,) = ask_once(simulator, tmp_path, lie)
    assert outcome.status == "ok" and outcome.answer is not None and "simulator" in outcome.answer.text
    assert (call["outcome"], call["paid"], call["cost_usd"]) == ("answered", "maybe", 0)
    assert "usage" in call["error"]
    assert [call[name] for name in CALLS.names if name.endswith("_tokens") and name != "max_tokens"] == [None] * 7
    with asking(simulator.url, tmp_path, run_id="later") as later:
        (again,) = later.ask(pages(1), attempts=5)
    assert (again.status, again.cached, later.calls) == ("ok", True, []), "what was paid for is kept"


@pytest.mark.parametrize("lie", ABOUT_NAMES)
def test_where_a_name_is_none_its_column_is_empty(simulator: Simulator, tmp_path: Path, lie: str) -> None:
    outcome, (call,) = ask_once(simulator, tmp_path, lie)
    assert outcome.status == "ok" and call["paid"] == "yes" and call["cost_usd"] > 0
    column = "stop_reason" if lie.startswith("stop") else "model_answered"
    assert not call[column] and column.removesuffix("_answered") in call["error"]


@pytest.mark.parametrize("lie", USELESS)
def test_where_there_is_no_text_the_image_is_asked_about_once_more_and_left(
    simulator: Simulator, tmp_path: Path, lie: str
) -> None:
    outcome, (first, second) = ask_once(simulator, tmp_path, lie, "ok")
    assert outcome.status == "ok"
    assert (first["paid"], second["paid"]) == ("maybe", "yes")
    twice = tmp_path / "twice"
    if lie == "nothing":
        return  # taken for an answer that was cut off, and asked for as often as any call that went wrong
    outcome, calls = ask_once(simulator, twice, lie, lie, lie)
    assert (outcome.status, outcome.given_up, len(calls)) == ("unavailable", True, 2)
    assert {call["paid"] for call in calls} == {"maybe"} and sum(call["cost_usd"] for call in calls) == 0
    assert outcome.error_code in ("malformed_answer", "foreign_answer") and outcome.error
    with asking(simulator.url, twice, run_id="later") as later:
        simulator.set_faults()
        (again,) = later.ask(pages(1), attempts=5)
    assert again.status == "ok", "a later run is not harmed"


def test_an_empty_answer_is_not_ok_and_not_paid_for_again(simulator: Simulator, tmp_path: Path) -> None:
    outcome, (call,) = ask_once(simulator, tmp_path, "content_empty")
    assert (outcome.status, outcome.error_code, call["paid"]) == ("invalid", "empty", "yes")
    outcome, calls = ask_once(simulator, tmp_path, run_id="later")
    assert (outcome.status, outcome.cached, calls) == ("invalid", True, [])


def test_negative_usage_does_not_lift_the_cap(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults("usage_negative=1")
    simulator.reset()
    worst = worst_case(question(), prepared(), prices())
    with asking(simulator.url, tmp_path, max_cost=worst * 3, concurrency=1) as asked:
        outcomes = asked.ask(pages(20), attempts=5)
    assert asked.halt.kind == "paused"
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 3, "unasked": 17}
    assert simulator.ledger().requests == 3 and asked.cost == 0


def test_an_endpoint_that_never_makes_sense_stops_the_run_after_ten_answers_alike(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.set_faults("html200=1")
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(40), attempts=5)
    assert len(asked.calls) == 10 and asked.halt.kind == "stopped"
    assert simulator.url in asked.halt.message and "a page, not with JSON" in asked.halt.message
    found = Counter(outcome.status for outcome in outcomes)
    assert found["unasked"] >= 30 and found["unasked"] + found["unavailable"] == 40, "by who came to be asked again"


def test_a_page_now_and_then_costs_nobody_but_its_image(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults(script=["ok", *["html200"] * 30])
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(20), attempts=5)
    found = Counter(outcome.status for outcome in outcomes)
    assert found["ok"] + found["unavailable"] == 20 and found["ok"] >= 5


def test_an_exception_between_sent_and_answered_closes_the_call(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise OverflowError("nobody foresaw this")

    monkeypatch.setattr("tasks.asking.priced.cost_usd", breaks)
    simulator.set_faults()
    with asking(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=5)
    assert outcome.status == "unavailable" and "OverflowError in" in str(outcome.error)
    assert [(call["paid"], call["error_type"]) for call in asked.calls] == [("maybe", "client")] * 2
    (left,) = leftovers(str(tmp_path / "output"), "job")
    entries = list(left.entries())
    assert [name for entry in entries for name in entry] == ["run", "sent", "ended", "sent", "ended"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"usage": {"input": 10**15}},
        {"usage": {"input": -5}},
        {"usage": {"input": 1e20}},
        {"usage": {"input": True}},
        {"usage": {"input": "5"}},
        {"usage": [1]},
        {"cost_usd": "-1.90"},
        {"cost_usd": "NaN"},
        {"cost_usd": "1E+30"},
        {"cost_usd": "0.00000000001"},
        {"cost_usd": 5},
        {"cost_usd": "five"},
        {"model": {}},
        {"stop_reason": 5},
        {"text": None},
        {"latency_ms": -1},
        {"latency_ms": 1e9},
        {"paid": "perhaps"},
        {"answered_at": "2026-11-24"},
        {"answered_at": 5},
    ],
    ids=str,
)
def test_a_kept_answer_that_cannot_be_true_is_a_missing_one(
    simulator: Simulator, tmp_path: Path, nonsense: dict[str, Any]
) -> None:
    ask_once(simulator, tmp_path, "ok")
    (kept,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    record = json.loads(kept.read_text())
    assert Answer.from_record(record).to_record() == record
    kept.write_text(json.dumps({**record, **nonsense}))
    outcome, calls = ask_once(simulator, tmp_path, "ok", run_id="later")
    assert (outcome.status, len(calls)) == ("ok", 1)


def test_a_kept_answer_of_the_first_release_is_still_read(simulator: Simulator, tmp_path: Path) -> None:
    ask_once(simulator, tmp_path, "ok")
    (kept,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    record = json.loads(kept.read_text())
    names = "text stop_reason model request_id usage cost_usd max_tokens latency_ms answered_at run_id image paid"
    assert sorted(record) == sorted(names.split())
    classes = "input output cache_read cache_write_5m cache_write_1h thinking geo unpriced"
    assert sorted(record["usage"]) == sorted(classes.split())


def test_a_byte_a_second_ends_at_the_deadline(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults("drip=1:0.05")  # without end
    began = time.monotonic()
    with asking(simulator.url, tmp_path, timeout=1.0) as asked:
        (outcome,) = asked.ask(pages(1), attempts=2)
    assert time.monotonic() - began < 60
    assert outcome.status == "unavailable" and outcome.error == "No answer within the time limit."
    assert [(call["paid"], call["error_type"]) for call in asked.calls] == [("maybe", "timeout")] * 2
    assert all(900 <= call["latency_ms"] < 30_000 for call in asked.calls)


@pytest.mark.parametrize("fault", ["flood", "bomb"])
def test_an_answer_without_end_is_given_up_at_a_few_megabytes(tmp_path: Path, fault: str) -> None:
    with Simulator() as simulator:
        simulator.set_faults(script=["ok", fault, fault])
        with asking(simulator.url, tmp_path, concurrency=1) as asked:
            asked.ask(pages(1), attempts=5)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            (outcome,) = asked.ask(pages(1, start=1), attempts=5)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (outcome.status, outcome.error_code) == ("unavailable", "too_large")
    assert [call["paid"] for call in asked.calls] == ["yes", "maybe", "maybe"]
    assert grown < 60_000, f"{grown:,} kB"


def test_a_redirect_gets_neither_key_nor_image(tmp_path: Path) -> None:
    with Simulator() as elsewhere, Simulator(elsewhere=f"{elsewhere.url}/gate?secret=1") as simulator:
        simulator.set_faults(script=["ok", "redirect"])
        with asking(simulator.url, tmp_path, concurrency=1) as asked:
            outcomes = asked.ask(pages(5), attempts=5)
        assert elsewhere.ledger().requests == 0
    assert Counter(outcome.status for outcome in outcomes) == {"ok": 1, "unasked": 4}
    assert asked.halt.kind == "stopped" and "\n" not in asked.halt.message
    assert f"{simulator.url} redirects to {elsewhere.url}/gate (307)" in asked.halt.message
    assert [call["paid"] for call in asked.calls] == ["yes", "no"]


def test_ten_images_that_the_api_cannot_read_do_not_stop_fifty_good_ones(tmp_path: Path) -> None:
    with Simulator() as simulator:
        simulator.set_faults(script=["400_image"] * 10)
        with asking(simulator.url, tmp_path, concurrency=1) as asked:
            outcomes = asked.ask(pages(60), attempts=5)
    assert Counter(outcome.status for outcome in outcomes) == {"unreadable": 10, "ok": 50}
    assert outcomes[0].error_code == "image_refused" and "Could not process image" in str(outcomes[0].error)
    assert asked.calls[0]["outcome"] == "rejected" and asked.calls[0]["paid"] == "no"


def test_ten_refusals_in_words_nobody_knows_are_put_down_to_the_images_if_the_question_is_sound(
    tmp_path: Path,
) -> None:
    with Simulator() as simulator:
        simulator.set_faults(script=["400"] * 10)
        with asking(simulator.url, tmp_path, concurrency=1) as asked:
            outcomes = asked.ask(pages(60), attempts=5)
        assert simulator.ledger().requests == 61 and simulator.ledger().counted == 1
    assert Counter(outcome.status for outcome in outcomes) == {"rejected": 10, "ok": 50}
    (tried,) = [call for call in asked.calls if not call["image"].endswith(".png")]
    assert (tried["paid"], tried["image"]) == ("yes", "a white square, to try the question")


def test_a_schema_that_the_api_refuses_stops_early_and_for_nothing(tmp_path: Path) -> None:
    refused = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "additionalProperties": False}
    with Simulator() as simulator:
        with asking(simulator.url, tmp_path, steps=steps(question(schema=refused)), concurrency=2) as asked:
            outcomes = asked.ask(pages(60), attempts=5)
        assert simulator.ledger().billed == 0
    assert asked.halt.kind == "stopped" and "all ended as rejected" in asked.halt.message
    assert {outcome.status for outcome in outcomes} <= {"rejected", "unasked"}
