"""The engine against the simulator over a socket: every image gets its outcome, nothing is asked twice."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tasks.asking.halting import Halt
from tasks.asking.pages import Outcome
from tasks.errors import EndpointError, SchemaError
from tasks.schemas import classification_schema
from tasks.simulator import Simulator
from tests.asking import asking, at, page, pages, question, statuses, steps
from tests.runs import until


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def text_of(outcome: Outcome) -> str:
    assert outcome.answer is not None
    return outcome.answer.text


def test_every_page_gets_its_own_answer_in_order(simulator: Simulator, tmp_path: Path) -> None:
    asked_about = pages(30)
    with asking(simulator.url, tmp_path) as asked:
        outcomes = asked.ask(asked_about, attempts=3)
    for asked_page, outcome in zip(asked_about, outcomes, strict=True):
        assert outcome.status == "ok"
        assert asked_page.image.sha256[:12] in text_of(outcome)  # the simulator names the image it was sent
        assert asked_page.image.data == b"" and asked_page.image.sent_bytes > 0
    assert simulator.ledger().billed == 30
    assert simulator.ledger().peak_in_flight <= 8


def test_kept_answers_are_not_paid_for_again_but_a_refresh_asks_again(simulator: Simulator, tmp_path: Path) -> None:
    with asking(simulator.url, tmp_path, run_id="run-1") as first:
        first.ask(pages(5), attempts=3)
    with asking(simulator.url, tmp_path, run_id="run-2") as second:
        outcomes = second.ask(pages(5), attempts=3)
    assert [outcome.cached for outcome in outcomes] == [True] * 5
    assert second.calls == [] and simulator.ledger().requests == 5
    with asking(simulator.url, tmp_path, run_id="run-3", refresh=True) as third:
        again = third.ask(pages(5) + pages(5), attempts=3)  # asked again once, however often it is listed
    assert simulator.ledger().requests == 10
    assert not any(outcome.cached for outcome in again)


def test_copies_in_flight_at_the_same_moment_share_one_call(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator, asking(simulator.url, tmp_path) as asked:
        copies = [page(1, uri=f"folder-{number}/same.png") for number in range(6)]
        outcomes = asked.ask(copies, attempts=3)
        assert simulator.ledger().requests == 1
    assert [outcome.duplicate_of for outcome in outcomes] == [None] + ["folder-0/same.png"] * 5
    assert len({outcome.answer.request_id for outcome in outcomes if outcome.answer}) == 1
    assert sum((copy.spent for copy in copies), Decimal(0)) == asked.cost > 0


def test_a_truncated_answer_is_asked_for_once_with_more_room_and_never_the_same_again(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.set_faults(script=["max_tokens", "ok"])
    with asking(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=3)
    assert outcome.status == "ok"
    assert [(call["outcome"], call["step"]) for call in asked.calls] == [("truncated", 0), ("answered", 0)]
    assert asked.calls[1]["max_tokens"] > asked.calls[0]["max_tokens"]


def test_truncated_for_good_climbs_to_the_fallback_prompt_then_the_fallback_model(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.set_faults(script=["max_tokens", "max_tokens", "refusal", "ok"])
    three_steps = steps(question(), question("In one word?"), question(model="claude-sonnet-5-5"))
    with asking(simulator.url, tmp_path, steps=three_steps) as asked:
        (outcome,) = asked.ask(pages(1), attempts=3)
    assert (outcome.status, outcome.step.number) == ("ok", 2)
    assert [(call["step"], call["outcome"]) for call in asked.calls] == [
        (0, "truncated"),
        (0, "truncated"),
        (1, "refused"),
        (2, "answered"),
    ]
    assert asked.calls[3]["model"] == "claude-sonnet-5-5"
    with asking(simulator.url, tmp_path, steps=three_steps, run_id="later") as later:
        (again,) = later.ask(pages(1), attempts=3)
    assert (again.status, again.step.number, later.calls) == ("ok", 2, [])


def test_an_answer_that_fits_no_schema_climbs_to_the_fallback(simulator: Simulator, tmp_path: Path) -> None:
    schema = classification_schema(["cat", "dog"])
    simulator.set_faults(script=["garbage", "ok"])
    both = steps(question(schema=schema.api), question("Cat or dog?", schema=schema.api))
    with asking(simulator.url, tmp_path, steps=both, schema=schema) as asked:
        (outcome,) = asked.ask(pages(1), attempts=3)
    assert (outcome.status, outcome.step.number) == ("ok", 1)
    assert not schema.fit(text_of(outcome)).errors


def test_a_refusal_without_fallbacks_is_an_outcome_and_free_when_empty(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults(script=["refusal_empty", "refusal"])
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(2), attempts=3)
    assert statuses(outcomes) == {"refused": 2}
    assert [call["paid"] for call in asked.calls] == ["no", "yes"]
    assert asked.cost == simulator.ledger().cost_usd.quantize(Decimal("0.000000001"))


def test_passing_failures_cost_attempts_and_the_last_one_makes_the_page_unavailable(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.asking.caller.BACKOFF_S", (0.01,))
    simulator.set_faults(script=["500", "drop_unpaid", "ok", "502", "truncate", "html"])
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        (good,) = asked.ask(pages(1), attempts=3)
        unlucky = pages(1, start=1)
        (bad,) = asked.ask(unlucky, attempts=3)
        assert unlucky[0].image.data, "the chunk's retry needs the bytes"
        (at_last,) = asked.ask(unlucky, attempts=1)
    assert (good.status, bad.status, at_last.status) == ("ok", "unavailable", "ok")
    assert [call["attempt"] for call in asked.calls] == [1, 2, 3, 1, 2, 3, 4]
    assert [call["paid"] for call in asked.calls] == ["no", "maybe", "yes", "no", "maybe", "no", "yes"]


def test_a_429_is_no_failed_attempt(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults(script=["429:0.02"] * 6 + ["529"] + ["ok"])
    with asking(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=1)
    assert outcome.status == "ok"
    assert asked.outcomes_of("throttled") == 6 and asked.outcomes_of("overloaded") == 1
    assert all(call["paid"] == "no" for call in asked.calls[:-1])


@pytest.mark.parametrize("fault", ["401", "402", "403", "404", "spend", "spend_own", "balance"])
def test_what_every_call_would_meet_stops_the_run_and_loses_nothing(
    simulator: Simulator, tmp_path: Path, fault: str
) -> None:
    simulator.set_faults(script=["ok", "ok", fault])
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(20), attempts=3)
        assert isinstance(asked.halt.error, EndpointError)
    assert statuses(outcomes) == {"ok": 2, "unasked": 18}
    assert simulator.ledger().requests == 3
    assert len(asked.store.records()) == 2
    assert simulator.url in asked.halt.message and "\n" not in asked.halt.message
    with asking(simulator.url, tmp_path, run_id="later") as later:
        again = later.ask(pages(20), attempts=3)
    assert statuses(again) == {"ok": 20} and len(later.calls) == 18


@pytest.mark.parametrize("faults", ["529=1", "429=1:0.05"])
def test_an_endpoint_that_turns_everything_away_for_too_long_stops_the_run(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str
) -> None:
    monkeypatch.setattr("tasks.asking.caller.THROTTLED_S", 0.05)
    simulator.set_faults(faults)
    with asking(simulator.url, tmp_path, patience=0.5) as asked:
        outcomes = asked.ask(pages(30), attempts=1)
    assert statuses(outcomes) == {"unasked": 30}, "being turned away is no failed attempt"
    assert isinstance(asked.halt.error, EndpointError) and "turned away every call" in asked.halt.message
    assert simulator.ledger().requests < 120, "nobody hammers a door that is shut"


def test_an_endpoint_that_is_gone_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.asking.caller.BACKOFF_S", (0.01,))
    monkeypatch.setattr("tasks.asking.caller.OUTAGE_S", 0.2)
    with Simulator() as gone:
        url = gone.url
    with asking(url, tmp_path) as asked:
        outcomes = asked.ask(pages(60), attempts=100)
    assert statuses(outcomes) == {"unasked": 60}
    assert "has not answered" in asked.halt.message and url in asked.halt.message
    assert {call["paid"] for call in asked.calls} == {"no"}


def test_a_rejected_image_is_a_row_and_the_run_goes_on(simulator: Simulator, tmp_path: Path) -> None:
    simulator.set_faults(script=["400", "413"])
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(5), attempts=3)
    assert [outcome.status for outcome in outcomes] == ["rejected", "rejected", "ok", "ok", "ok"]
    assert outcomes[0].error_code == "invalid_request_error"


@pytest.mark.parametrize(
    ("fault", "status"), [("garbage", "invalid"), ("max_tokens", "truncated"), ("400", "rejected")]
)
def test_ten_first_answers_that_fail_alike_stop_the_run(
    simulator: Simulator, tmp_path: Path, fault: str, status: str
) -> None:
    schema = classification_schema(["cat", "dog"])
    simulator.set_faults(f"{fault}=1")
    settings: dict[str, Any] = {"schema": schema, "steps": steps(question(schema=schema.api)), "concurrency": 2}
    with asking(simulator.url, tmp_path, **settings) as asked:
        outcomes = asked.ask(pages(200), attempts=3)  # a disk that is slow to keep the tenth lets some more calls leave
    assert isinstance(asked.halt.error, SchemaError)
    found = statuses(outcomes)
    assert found["unasked"] == 200 - found[status]
    assert 10 <= found[status] < 200 or status == "rejected", "being refused is free: nobody waits for the last doubt"


def test_stopping_lets_calls_in_flight_finish_and_keeps_them(tmp_path: Path) -> None:
    with Simulator(latency=600.0) as simulator, asking(simulator.url, tmp_path, concurrency=4, timeout=90.0) as asked:
        asking_now = asked.engine.submit(pages(12), attempts=3)
        until(lambda: simulator.ledger(entries=False).in_flight == 4)
        asked.engine.stop(Halt("interrupted", "Interrupted."))
        until(lambda: asked.engine.halt)
        simulator.let_go()
        outcomes = asking_now.result()
    assert statuses(outcomes) == {"ok": 4, "unasked": 8}
    assert len(asked.store.records()) == simulator.ledger().billed == 4
    assert outcomes[-1].error_code == "interrupted"


def test_the_first_call_goes_alone_until_it_is_answered(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator:
        simulator.set_faults(script=["429:0.05", "500"])
        with asking(simulator.url, tmp_path, one_first=True) as asked:
            assert statuses(asked.ask(pages(12), attempts=3)) == {"ok": 12}
        starts = sorted(call["started_at"] for call in asked.calls)
        first_good = min(call["started_at"] for call in asked.calls if call["outcome"] == "answered")
        assert simulator.ledger().peak_in_flight > 4, "all together"
    assert sum(start <= first_good for start in starts) <= 4, "but one after the other until the first answer"


def test_nothing_written_or_raised_holds_the_key_or_the_image(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-ant-very-secret-0123456789")
    asked_about = pages(12)
    image = asked_about[0].image.data
    secrets = [b"very-secret", image[20:60], base64.b64encode(image)[20:60]]
    simulator.set_faults(script=["500", "429:0.01", "400", "truncate", "drop_paid", "ok", "ok", "401"])
    caplog.set_level("DEBUG")
    where = replace(at(simulator.url), key_env="SECRET_KEY", auth="both")
    with asking(simulator.url, tmp_path, endpoint=where, concurrency=2) as asked:
        outcomes = asked.ask(asked_about, attempts=2)
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    left += [repr([asked.calls, outcomes, asked.engine.halt]).encode(), caplog.text.encode()]
    assert len(left) > 3 and caplog.text
    for text in left:
        assert not [secret for secret in secrets if secret in text]
