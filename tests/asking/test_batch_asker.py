"""An engine that asks by Message Batch: the same outcomes as online, half the bill, and nothing submitted twice."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks.asking import batches as batch_room
from tasks.asking.batches import packing
from tasks.asking.batches.intents import IntentLog
from tasks.asking.batches.polling import Patience
from tasks.asking.claims import Claims
from tasks.asking.halting import Halt
from tasks.asking.pages import BatchSettings
from tasks.errors import EndpointError, SchemaError
from tasks.schemas import classification_schema
from tasks.simulator import Simulator
from tasks.storage.locks import RangeLocks
from tests.asking import Asked, asking, at, prepared, question, statuses, steps
from tests.asking import pages_again as pages
from tests.runs import until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "QUIET_S", 0.1)
    monkeypatch.setattr(batch_room, "Patience", partial(Patience, poll=0.02, slowest_poll=0.05, late=3.0))


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def by_batch(url: str, folder: Path, *, batches: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An engine that asks by batch and writes down what it submits below the folder."""
    how = {"log": str(folder / "submitted"), "folder": folder / "reading", "absent": 0.3, **(batches or {})}
    return asking(url, folder, batches=BatchSettings(**how), **settings)


def left(folder: Path) -> int:
    """Batches that are written down as not collected."""
    return len(IntentLog(str(folder / "submitted")).open())


def balances(asked: Asked, simulator: Simulator) -> None:
    """The ledger of calls agrees with the simulator's to the last digit."""
    assert asked.cost == simulator.ledger().cost_usd
    ids = [call["request_id"] for call in asked.calls if call["paid"] == "yes"]
    assert len(ids) == len(set(ids)) == simulator.ledger().billed


def test_answers_are_kept_and_the_bytes_let_go_of(simulator: Simulator, tmp_path: Path) -> None:
    asked_about = pages(30)
    with by_batch(simulator.url, tmp_path) as asked:
        outcomes = asked.ask(asked_about, attempts=3)
    for one, outcome in zip(asked_about, outcomes, strict=True):
        assert outcome.status == "ok" and one.image.sha256[:12] in outcome.answer.text
        assert one.image.data == b"" and one.spent == outcome.answer.cost_usd and one.attempts == 1
    balances(asked, simulator)
    assert {call["tier"] for call in asked.calls} == {"batch"}
    assert (simulator.ledger().batches, simulator.ledger().requests, left(tmp_path)) == (1, 0, 0)
    with by_batch(simulator.url, tmp_path, run_id="later") as later:
        assert all(outcome.cached for outcome in later.ask(pages(30), attempts=3))
    assert later.calls == [] and simulator.ledger().batches == 1


def test_nobody_stands_in_line_for_a_batch(simulator: Simulator, tmp_path: Path) -> None:
    """Thousands wait for hours: an image that waits has no task of the event loop, and none of its stack."""
    simulator.change(batch_latency=600.0)
    with by_batch(simulator.url, tmp_path) as asked:
        asking_now = asked.engine.submit(pages(300), attempts=3)
        until(lambda: asked.engine.batches.in_flight == 300)
        until(lambda: len(asyncio.all_tasks(asked.engine._loop)) < 10)
        simulator.change(batch_latency=0.0)
        simulator.let_go()
        assert statuses(asking_now.result()) == {"ok": 300}
    balances(asked, simulator)


def test_copies_share_one_request_also_where_it_fails_at_first(simulator: Simulator, tmp_path: Path) -> None:
    copies = [replace(one, uri=f"folder-{number}/same.png") for number in range(4) for one in pages(1)]
    simulator.set_faults(script=["529", "expired"])
    simulator.change(batch_latency=0.3)
    with by_batch(simulator.url, tmp_path) as asked:
        asking_now = [asked.engine.submit([one], attempts=3) for one in copies]
        outcomes = [one.result()[0] for one in asking_now]
    assert statuses(outcomes) == {"ok": 4}
    assert sorted(outcome.duplicate_of or "" for outcome in outcomes) == ["", *["folder-0/same.png"] * 3]
    assert simulator.ledger().batch_requests == 3
    assert sum(one.spent for one in copies) == asked.cost and [one.attempts for one in copies] == [3, 0, 0, 0]
    balances(asked, simulator)


def test_what_nobody_waited_for_is_charged_to_one_image_and_what_failed_to_none(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A batch of an earlier run: an answer, whose picture lies in two places now, and a request that expired."""
    some = pages(3)
    simulator.set_faults(script={some[1].image.sha256[:16]: ["expired"]})
    with by_batch(simulator.url, tmp_path, batches={"no_wait": True}) as first:
        assert statuses(first.ask(some, attempts=3)) == {"unasked": 3}
    again = [*pages(3), *(replace(one, uri=f"copy-{number}.png") for number, one in enumerate(pages(2)))]
    with by_batch(simulator.url, tmp_path, run_id="later") as later:
        outcomes = [later.ask([one], attempts=3)[0] for one in again]
    assert statuses(outcomes) == {"ok": 5}
    assert sum(one.spent for one in again) == later.cost and [one.attempts for one in again] == [1, 1, 1, 0, 0]
    assert simulator.ledger().batch_requests == 4
    balances(later, simulator)


def test_an_intent_that_is_gone_while_its_batch_runs_stops_the_run(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=600.0)
    with by_batch(simulator.url, tmp_path) as asked:
        asking_now = asked.engine.submit(pages(2), attempts=3)
        until(lambda: any(intent.batch_id for intent in IntentLog(str(tmp_path / "submitted")).open()))
        for path in (tmp_path / "submitted").glob("*.json"):
            path.unlink()
        simulator.let_go()
        assert statuses(asking_now.result()) == {"unasked": 2}
    assert "said what was submitted, and is gone" in asked.halt.message


def test_a_batch_is_submitted_when_it_is_full(simulator: Simulator, tmp_path: Path) -> None:
    with by_batch(simulator.url, tmp_path, batches={"most_bytes": 30_000}) as asked:
        assert statuses(asked.ask(pages(30), attempts=3)) == {"ok": 30}
    assert simulator.ledger().batches == 3
    balances(asked, simulator)


def test_truncated_and_failed_answers_go_down_the_same_ladder_in_the_next_batch(
    simulator: Simulator, tmp_path: Path
) -> None:
    some = pages(7)
    faults = [["max_tokens"], ["529"], ["expired"], ["400"], ["refusal"], ["ok"], ["max_tokens", "400"]]
    simulator.set_faults(script={one.image.sha256[:16]: script for one, script in zip(some, faults, strict=True)})
    chain = steps(question(), question("Say it in other words."))
    claims = Claims(RangeLocks(tmp_path / "claims"))
    with by_batch(simulator.url, tmp_path, steps=chain, claims=claims, timeout=5.0) as asked:
        outcomes = asked.ask(some, attempts=3)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "rejected", "ok", "ok", "truncated"]
    assert [outcome.step.number for outcome in outcomes] == [0, 0, 0, 0, 1, 0, 0]
    assert outcomes[0].answer.max_tokens > question().max_tokens
    assert (simulator.ledger().batches, simulator.ledger().batch_requests) == (2, 12)
    assert [one.attempts for one in some] == [2, 2, 2, 1, 2, 1, 2]
    assert sum(one.spent for one in some) == asked.cost
    balances(asked, simulator)


@pytest.mark.parametrize("end", ["expired", "canceled"])
def test_attempts_are_counted_over_batches(simulator: Simulator, tmp_path: Path, end: str) -> None:
    simulator.set_faults(f"{end}=1")
    with by_batch(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=3)
    assert (outcome.status, outcome.error_code) == ("unavailable", end)
    assert simulator.ledger().batches == 3 and asked.cost == 0


def test_an_empty_balance_stops_the_run_and_condemns_no_image(simulator: Simulator, tmp_path: Path) -> None:
    some = pages(8)
    simulator.set_faults("balance=1", script={one.image.sha256[:16]: ["ok"] for one in some[:2]})
    with by_batch(simulator.url, tmp_path) as asked:
        outcomes = asked.ask(some, attempts=3)
    assert isinstance(asked.halt.error, EndpointError) and "credit balance" in asked.halt.message
    assert set(statuses(outcomes)) <= {"ok", "unasked"}
    assert len(asked.store.records()) == 2, "what was answered is kept"
    balances(asked, simulator)


def test_the_worst_case_of_a_batch_fits_under_the_cap(simulator: Simulator, tmp_path: Path) -> None:
    cap = Decimal("0.001")
    with by_batch(simulator.url, tmp_path, max_cost=cap) as asked:
        outcomes = asked.ask(pages(120), attempts=3)
    found = statuses(outcomes)
    assert asked.halt.kind == "paused" and found["ok"] > 0 and found["unasked"] > 0
    assert asked.cost == simulator.ledger().cost_usd <= cap
    with by_batch(simulator.url, tmp_path, run_id="later") as later:
        assert statuses(later.ask(pages(120), attempts=3)) == {"ok": 120}
    assert simulator.ledger().batch_requests == 120


@pytest.mark.parametrize("fault", ["", "lost=1", "unmade=1", "late=0.5"])
def test_what_a_run_left_is_collected_by_the_next_and_nothing_submitted_twice(
    simulator: Simulator, tmp_path: Path, fault: str
) -> None:
    simulator.change(batch_latency=600.0, batch_faults=fault)
    with by_batch(simulator.url, tmp_path) as first:
        asking_now = first.engine.submit(pages(5), attempts=3)
        until(lambda: left(tmp_path))
        first.engine.stop(Halt("interrupted", "Interrupted."))
        assert statuses(asking_now.result()) == {"unasked": 5}
    simulator.change(batch_latency=0.0)
    simulator.let_go()
    with by_batch(simulator.url, tmp_path, run_id="later") as later:
        some = pages(7)
        assert statuses(later.ask(some, attempts=3)) == {"ok": 7}
    assert first.calls == [] and len(later.calls) == 7 and left(tmp_path) == 0
    assert sum(one.spent for one in some) == later.cost
    assert simulator.ledger().batch_requests == 7
    balances(later, simulator)


def test_results_that_are_gone_may_have_been_paid_and_are_asked_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="archived")
    with by_batch(simulator.url, tmp_path) as asked:
        asking_now = asked.engine.submit(pages(3), attempts=3)
        while simulator.ledger().batches < 2:
            simulator.change(batch_faults="" if simulator.ledger().billed >= 3 else "archived")
        assert statuses(asking_now.result()) == {"ok": 3}
    assert [call["paid"] for call in asked.calls] == ["maybe"] * 3 + ["yes"] * 3


def test_an_endpoint_that_takes_no_batch_now_is_asked_later(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="busy=2", retry_after=0.05)
    with by_batch(simulator.url, tmp_path) as asked:
        assert statuses(asked.ask(pages(4), attempts=1)) == {"ok": 4}
    assert (simulator.ledger().batches, simulator.ledger().batch_requests) == (1, 4)


def test_a_batch_that_is_too_large_is_submitted_in_halves(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="most=3")
    with by_batch(simulator.url, tmp_path) as asked:
        assert statuses(asked.ask(pages(10), attempts=1)) == {"ok": 10}
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, left(tmp_path)) == (4, 10, 0)
    balances(asked, simulator)


def test_a_schema_is_tried_for_free_before_anything_is_submitted(simulator: Simulator, tmp_path: Path) -> None:
    schema = classification_schema(["cat", "dog"])
    asked_for = steps(question(schema=schema.api))
    with by_batch(simulator.url, tmp_path, steps=asked_for, schema=schema) as asked:
        assert statuses(asked.ask(pages(3), attempts=3)) == {"ok": 3}
    assert (simulator.ledger().counted, simulator.ledger().requests) == (1, 0)
    wrong = steps(question(schema={"type": "object", "properties": {"a": {"type": "string"}}}))
    with by_batch(simulator.url, tmp_path / "wrong", steps=wrong, schema=schema) as stopped:
        assert statuses(stopped.ask(pages(3), attempts=3)) == {"unasked": 3}
    assert isinstance(stopped.halt.error, SchemaError) and simulator.ledger().batches == 1


def test_where_only_a_call_can_tell_one_image_is_asked_about_online(simulator: Simulator, tmp_path: Path) -> None:
    schema = classification_schema(["cat", "dog"])
    mute = replace(at(simulator.url), count_tokens=False)
    asked_for = steps(question(schema=schema.api))
    with by_batch(simulator.url, tmp_path, endpoint=mute, steps=asked_for, schema=schema) as asked:
        assert statuses(asked.ask(pages(4), attempts=3)) == {"ok": 4}
    assert (simulator.ledger().requests, simulator.ledger().batch_requests) == (1, 3)
    assert sorted(call["tier"] for call in asked.calls) == ["batch"] * 3 + ["standard"]


def test_a_file_that_changed_meanwhile_is_not_asked_under_its_old_name(simulator: Simulator, tmp_path: Path) -> None:
    (one,) = pages(1)
    one.again = partial(prepared, 99)
    simulator.set_faults(script=["529"])
    with by_batch(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask([one], attempts=3)
    assert (outcome.status, outcome.error_code) == ("unavailable", "changed")
    assert simulator.ledger().batch_requests == 1


def test_auto_asks_in_batches_as_long_as_they_can_be_expected_in_time(simulator: Simulator, tmp_path: Path) -> None:
    with by_batch(simulator.url, tmp_path, batches={"mode": "auto", "deadline": 7200.0}) as plenty:
        assert statuses(plenty.ask(pages(3), attempts=3)) == {"ok": 3}
    assert (simulator.ledger().batch_requests, simulator.ledger().requests) == (3, 0)
    simulator.reset()
    with by_batch(simulator.url, tmp_path, batches={"mode": "auto", "deadline": 600.0}) as hurried:
        assert statuses(hurried.ask(pages(3, start=3), attempts=3)) == {"ok": 3}
    assert (simulator.ledger().batch_requests, simulator.ledger().requests) == (0, 3), "an hour is assumed"


def test_auto_cancels_in_time_and_asks_the_rest_online_none_of_it_twice(simulator: Simulator, tmp_path: Path) -> None:
    how = {"mode": "auto", "deadline": 4.0}
    with by_batch(simulator.url, tmp_path) as earlier:  # from which the next one learns how long batches take
        earlier.ask(pages(1, start=98), attempts=3)
    simulator.change(batch_latency=100.0)
    some = pages(20)
    with by_batch(simulator.url, tmp_path, batches=how, run_id="auto") as asked:
        assert statuses(asked.ask(some, attempts=1)) == {"ok": 20}
    tiers = [call["tier"] for call in asked.calls if call["paid"] == "yes"]
    assert len(tiers) == 20 and "standard" in tiers
    assert simulator.ledger().billed == 21, "none was paid twice"


def test_a_long_system_prompt_is_cached_for_an_hour_and_the_bill_is_exact(simulator: Simulator, tmp_path: Path) -> None:
    with by_batch(simulator.url, tmp_path, steps=steps(question(system="Read this with care. " * 2000))) as asked:
        assert statuses(asked.ask(pages(4), attempts=3)) == {"ok": 4}
    written = {name: sum(call[f"cache_write_{name}_tokens"] for call in asked.calls) for name in ("5m", "1h")}
    assert written["1h"] > 0 and written["5m"] == 0
    balances(asked, simulator)
