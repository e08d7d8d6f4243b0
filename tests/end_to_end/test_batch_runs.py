"""Runs by Message Batch: the same rows as online at half the price, one bill, and nothing asked twice."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from config.job import Job
from flows.analyze_images import analyze_images
from flows.cli.estimate import make_estimate
from tasks.listing import list_images
from tasks.planning.resolving import resolve
from tasks.simulator import Simulator
from tests.runs import draw, picture, rows

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(source: Path, output: Path, **options: Any) -> dict[str, Any]:
    summary: dict[str, Any] = analyze_images(
        str(source), str(output), Job(**{"name": "job", "max_tokens": 100, "mode": "batch", "max_failed": 1, **options})
    )
    return summary


def test_a_run_by_batch_has_the_rows_of_one_online_and_costs_half(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 12)
    (images / "copy.jpg").write_bytes((images / "p003.jpg").read_bytes())
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    summary = run(images, tmp_path / "batch")
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, ledger.requests) == (1, 12, 0)
    assert (summary["ok"], summary["failed"], summary["duplicates"]) == (13, 1, 1)
    calls, costs = rows(summary, "calls"), rows(summary, "costs")
    assert set(calls["tier"]) == set(costs["tier"]) == {"batch"}
    assert calls["cost_usd"].sum() == costs["cost_usd"].sum() == ledger.cost_usd > 0
    assert rows(summary)["cost_usd"].sum() == ledger.cost_usd
    assert costs["saved_batch_usd"].sum() == ledger.cost_usd
    assert (summary["batches"], summary["batch_requests"]) == (1, 12)

    simulator.reset()
    online = run(images, tmp_path / "online", mode="online", refresh=True)
    assert simulator.ledger().cost_usd == 2 * ledger.cost_usd == Decimal(str(online["cost_usd"]))
    columns = ["name", "status", "answer", "sent_sha256", "model_answered", "stop_reason"]
    by_batch, by_call = (rows(each)[columns].sort_values("name", ignore_index=True) for each in (summary, online))
    assert by_batch.equals(by_call)


def test_an_estimate_of_batches_is_what_the_endpoint_counts_and_bills(simulator: Simulator, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, size in enumerate([(640, 480), (1500, 900), (300, 2000), (2600, 1900), (90, 60), (1024, 768)]):
        (images / f"{number}.jpg").write_bytes(picture(number, size))
    job = Job(name="job", preset="ocr", mode="batch", answer_schema="receipt", max_failed=1)
    estimate = make_estimate(list_images(str(images)), resolve(job), output=None)
    offer = next(offer for offer in estimate.models if (offer.model, offer.preset) == (job.model, "ocr"))
    summary: dict[str, Any] = analyze_images(str(images), str(tmp_path / "out"), job)
    ledger = simulator.ledger()
    assert (ledger.batch_requests, ledger.requests, summary["ok"]) == (6, 0, 6)
    assert offer.input_tokens == pytest.approx(ledger.tokens["input"], rel=0.03)
    assert offer.batch_usd == in_batches(offer.input_tokens, offer.output_tokens)
    assert ledger.cost_usd == in_batches(ledger.tokens["input"], ledger.tokens["output"])


def test_an_estimate_counts_a_long_system_prompt_that_is_cached_as_the_endpoint_does(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Written once for an hour and read by every other request: the same tokens, in classes that cost less."""
    images = draw(tmp_path / "images", 6)
    system = "Read every line with care, and write down what it says, as it is written. " * 700
    job = Job(name="job", preset="ocr", mode="batch", system=system)
    estimate = make_estimate(list_images(str(images)), resolve(job), output=None)
    offer = next(offer for offer in estimate.models if (offer.model, offer.preset) == (job.model, "ocr"))
    assert analyze_images(str(images), str(tmp_path / "out"), job)["ok"] == 6
    tokens = simulator.ledger().tokens
    assert tokens["cache_write_1h"] > 4096 and tokens["cache_read"] == 5 * tokens["cache_write_1h"]
    counted = sum(tokens[name] for name in ("input", "cache_write_1h", "cache_read"))
    assert offer.input_tokens == pytest.approx(counted, rel=0.03)
    assert offer.batch_usd == in_batches(offer.input_tokens, offer.output_tokens), "none of it is assumed to be cached"


def in_batches(tokens_in: int, tokens_out: int) -> Decimal:
    """Half of claude-haiku-5-5's price."""
    return (tokens_in * Decimal("0.10") + tokens_out * Decimal("0.50")) / 2_000_000


def test_without_waiting_a_run_leaves_and_the_same_command_collects(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=600.0)
    images = draw(tmp_path / "images", 8)
    first = run(images, tmp_path / "out", no_wait=True)
    assert (first["status"], first["statuses"], first["calls"]) == ("waiting", {"unasked": 8}, 0)
    assert (first["batches"], first["batch_requests"]) == (1, 8)
    assert "1 Message Batch runs on" in first["message"] and "may cost $0.0" in first["message"]
    assert set(rows(first)["error_code"]) == {"waiting"}

    last = run(images, tmp_path / "out", no_wait=True, limit=8)
    assert last["status"] == "waiting"
    simulator.let_go()
    while last["status"] == "waiting":
        last = run(images, tmp_path / "out", no_wait=True)
    assert (last["ok"], last["rows"], last["batches"], last["batch_requests"]) == (8, 8, 1, 8)
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, ledger.requests) == (1, 8, 0)
    assert rows(last, "calls")["cost_usd"].sum() == rows(last)["cost_usd"].sum() == ledger.cost_usd
    assert run(images, tmp_path / "out", mode="online")["calls"] == 0


def test_each_job_collects_its_own_batches_and_leaves_those_of_others(simulator: Simulator, tmp_path: Path) -> None:
    """The same images with another question, and other images: who left submitted for nobody else."""
    simulator.change(batch_latency=600.0)
    images, others = draw(tmp_path / "images", 4), draw(tmp_path / "others", 3, 10)
    jobs: list[tuple[Path, dict[str, Any]]] = [
        (images, {"name": "a"}),
        (images, {"name": "b", "prompt": "What is it?"}),
    ]
    jobs += [(others, {"name": "c"})]
    assert [run(source, tmp_path / "out", no_wait=True, **job)["status"] for source, job in jobs] == ["waiting"] * 3
    simulator.let_go()
    for source, job in jobs:
        collected = run(source, tmp_path / "out", **job)
        count = len(list(source.iterdir()))
        assert (collected["ok"], collected["calls"]) == (count, count)
        assert set(rows(collected, "calls")["image"]) == {str(path) for path in source.iterdir()}
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, ledger.requests) == (3, 11, 0)


def test_what_waits_in_a_batch_is_not_asked_online(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=3.0)
    images = draw(tmp_path / "images", 3)
    run(images, tmp_path / "out", no_wait=True)
    draw(images, 2, start=3)
    online = run(images, tmp_path / "out", mode="online")
    ledger = simulator.ledger()
    assert online["ok"] == 5 and (ledger.requests, ledger.batch_requests) == (2, 3)
    assert sorted(rows(online, "calls")["tier"]) == ["batch"] * 3 + ["standard"] * 2
    assert rows(online, "calls")["cost_usd"].sum() == ledger.cost_usd


@pytest.mark.all  # the engine's own test of the cap takes no server
def test_the_cap_holds_for_the_worst_case_of_what_is_submitted(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 40)
    paused = run(images, tmp_path / "out", max_cost=Decimal("0.001"))
    assert paused["status"] == "paused" and paused["ok"] > 0 and paused["statuses"]["unasked"] > 0
    assert simulator.ledger().cost_usd == Decimal(str(paused["cost_usd"])) <= Decimal("0.001")
    assert run(images, tmp_path / "out")["ok"] == 40
    assert simulator.ledger().batch_requests == 40
