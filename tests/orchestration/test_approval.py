"""A run of a deployment asks a person for money: paused, answered, suspended, resumed, refused, cancelled."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Cancelling, Pending, Running, Scheduled

from config.job import Job
from flows.analyze_images import analyze_images
from tasks.simulator import Simulator
from tests.runs import draw, run_table

IMAGES = 20
# Room for one call, whose worst case is $0.0013, some times over: a call costs $0.00004, and all of them $0.0007.
SOME = Decimal("0.0015")
JOB = Job(name="asked", prompt="One word.", max_tokens=50, concurrency=2)


class Attempt:
    """A flow run of a deployment, at work in a thread as it would be in a process of its own."""

    def __init__(self, client: SyncPrefectClient, flow_run: FlowRun, output: Path) -> None:
        self.client, self.id, self.output = client, flow_run.id, output
        self.ended: Any = None
        self.start()

    def start(self) -> None:
        """From the top, as a runner starts it anew after Resume or Retry."""
        result: Any = self.client.set_flow_run_state(self.id, Pending())
        assert result.status.value == "ACCEPT", result
        flow_run, self.ended = self.client.read_flow_run(self.id), None
        self.thread = threading.Thread(target=self._work, args=(flow_run,), daemon=True)
        self.thread.start()

    def _work(self, flow_run: FlowRun) -> None:
        parameters = {**flow_run.parameters, "job": Job.model_validate(flow_run.parameters["job"])}
        try:
            self.ended = run_flow(analyze_images, flow_run=flow_run, parameters=parameters, return_type="state")
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            self.ended = error

    def until(self, name: str, seconds: float = 90) -> State[Any]:
        """Wait for a state, by its name."""
        deadline = time.monotonic() + seconds
        while (state := self.client.read_flow_run(self.id).state) is None or state.name != name:
            assert time.monotonic() < deadline, f"not {name} within {seconds} s, but {state}"
            assert self.thread.is_alive() or self.ended is None, f"not {name}, but {self.ended!r}"
            time.sleep(0.1)
        if keyset := state.state_details.run_input_keyset:
            while not self.client.filter_flow_run_input(self.id, keyset["schema"], 1, set()):
                assert time.monotonic() < deadline, "no form"
                time.sleep(0.1)
        return state

    def answer(self, **given: Any) -> str:
        """What the server does with it."""
        return self.client.resume_flow_run(self.id, given).status.value

    def paused_anew(self, before: State[Any]) -> State[Any]:
        """Wait for another pause than that; the run may have gone on between them for a moment."""
        deadline = time.monotonic() + 90
        while (state := self.until("Paused")).state_details.pause_key == before.state_details.pause_key:
            assert time.monotonic() < deadline, f"still {state}"
            time.sleep(0.1)
        return state

    def spend_some(self) -> None:
        """Until it is paused for the second time, by its cap; the first time it is by the estimate."""
        first = self.until("Paused")
        assert self.answer(max_cost=float(SOME)) == "ACCEPT"
        self.paused_anew(first)

    def end(self) -> Any:
        """How the attempt ended."""
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.ended

    def description(self) -> str:
        """What the person reads; it comes after the form."""
        deadline = time.monotonic() + 30
        while True:
            found = self.client.filter_flow_run_input(self.id, "", 50, set())
            told = [str(one.decoded_value) for one in found if one.key.endswith("-description")]
            if told:
                return told[-1]
            assert time.monotonic() < deadline, "no description"
            time.sleep(0.1)


Ask = Callable[..., Attempt]


@pytest.fixture
def ask(prefect_server: str, simulator: Simulator, tmp_path: Path) -> Iterator[Ask]:
    assert prefect_server
    draw(tmp_path / "images", IMAGES)
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(analyze_images)
        made: list[Any] = []

        def start(cap: Decimal, **more: Any) -> Attempt:
            deployment = client.create_deployment(flow_id, f"asked-{tmp_path.name}", **more)
            made.append(deployment)
            job = JOB.model_copy(update={"max_cost": cap})
            given = {"source": str(tmp_path / "images"), "output": str(tmp_path / "out")}
            flow_run = client.create_flow_run_from_deployment(
                deployment, parameters={**given, "job": job.model_dump(mode="json", by_alias=True)}
            )
            return Attempt(client, flow_run, tmp_path / "out")

        yield start
        for deployment in made:
            client.delete_deployment(deployment)


def newest(output: Path) -> pd.DataFrame:
    """The rows of the last run."""
    rows = pd.read_parquet(output / "results")
    newest: pd.DataFrame = rows[rows["run_id"] == rows["run_id"].max()]
    return newest


def exact(attempt: Attempt, simulator: Simulator) -> bool:
    """Whether every run has a row for each image, and the tables say to the last digit what was paid."""
    rows = pd.read_parquet(attempt.output / "results")
    assert (rows.groupby("run_id").size() == IMAGES).all()
    return bool(run_table(attempt.output)["cost_usd"].sum() == simulator.ledger().cost_usd)


def test_a_capped_run_asks_and_goes_on_with_the_answer(ask: Ask, simulator: Simulator) -> None:
    """Before the first call, since the estimate is above it; then at the new cap; then it may spend enough."""
    attempt = ask(Decimal("0.0004"))
    first = attempt.until("Paused")
    assert simulator.ledger().requests == 0
    assert "has spent **$0.00** of its cap of $0.0004" in attempt.description()
    assert "20 are left" in attempt.description() and "in all" in attempt.description()
    for nonsense in ({}, {"max_cost": "much"}, {"max_cost": -1}, {"max_cost": None}, {"cap": 1}, {"max_cost": 1e300}):
        assert attempt.answer(**nonsense) == "REJECT", nonsense
    assert attempt.answer(max_cost=0.0015) == "ACCEPT"
    asked = attempt.paused_anew(first)
    assert "spent of $0.0015" in str(asked.message)
    spent = simulator.ledger().cost_usd
    assert 0 < spent <= Decimal("0.0015")
    said = time.monotonic()
    attempt.answer(max_cost=1)
    state = attempt.end()
    assert (state.name, state.type.value) == ("Completed", "COMPLETED"), state
    assert time.monotonic() - said < 60
    assert (newest(attempt.output)["status"] == "ok").all()
    assert list(run_table(attempt.output)["status"]) == ["paused", "paused", "completed"]
    assert exact(attempt, simulator)
    assert simulator.ledger().requests == IMAGES


@pytest.mark.all
def test_after_some_minutes_it_is_suspended_and_the_answer_starts_it_again(
    ask: Ask, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONFLOW_PAUSE_MINUTES", "0.05")
    attempt = ask(SOME)
    attempt.until("Suspended")
    assert isinstance(attempt.end(), Pause)
    assert exact(attempt, simulator)
    spent = simulator.ledger().cost_usd
    assert attempt.answer(max_cost=1) == "ACCEPT"
    assert attempt.client.read_flow_run(attempt.id).state_name == "Resuming"
    attempt.start()
    assert attempt.end().name == "Completed"
    assert exact(attempt, simulator) and simulator.ledger().cost_usd > spent
    assert simulator.ledger().requests == IMAGES
    # A retry knows the answer, and that all is done.
    attempt.client.set_flow_run_state(attempt.id, Scheduled(name="AwaitingRetry"), force=True)
    attempt.start()
    assert attempt.end().name == "Completed" and simulator.ledger().requests == IMAGES


@pytest.mark.all
def test_a_run_that_holds_a_slot_of_its_deployment_is_suspended_at_once(ask: Ask, simulator: Simulator) -> None:
    """Its pause would give the slot back, and Prefect ends runs without one some minutes later."""
    attempt = ask(Decimal(0), concurrency_limit=1)
    attempt.until("Suspended")
    assert isinstance(attempt.end(), Pause)
    assert attempt.answer(max_cost=1) == "ACCEPT"
    attempt.start()
    assert attempt.end().name == "Completed" and exact(attempt, simulator)


@pytest.mark.all
@pytest.mark.parametrize("said", [0, 0.00001])
def test_no_more_than_what_is_spent_ends_the_run_as_it_is(ask: Ask, simulator: Simulator, said: float) -> None:
    attempt = ask(Decimal(0))
    attempt.spend_some()
    spent = simulator.ledger().cost_usd
    attempt.answer(max_cost=said)
    state = attempt.end()
    assert (state.name, state.type.value) == ("Paused", "COMPLETED")
    assert simulator.ledger().cost_usd == spent and exact(attempt, simulator)
    assert list(run_table(attempt.output)["status"]) == ["paused"] * 2


@pytest.mark.all
def test_an_answer_that_no_form_lets_through_is_asked_about_again(ask: Ask, simulator: Simulator) -> None:
    """By the API: an input of one's own, and a state set by hand."""
    attempt = ask(Decimal(0))
    keyset = attempt.until("Paused").state_details.run_input_keyset
    assert keyset
    attempt.client.create_flow_run_input(attempt.id, keyset["response"], '{"max_cost": "a lot"}')
    attempt.client.set_flow_run_state(attempt.id, Running())
    deadline = time.monotonic() + 60
    while keyset == (again := attempt.until("Paused").state_details.run_input_keyset):
        assert time.monotonic() < deadline, again
    assert simulator.ledger().requests == 0
    attempt.answer(max_cost=1)
    assert attempt.end().name == "Completed" and exact(attempt, simulator)


@pytest.mark.all
def test_cancel_while_paused(ask: Ask, simulator: Simulator) -> None:
    attempt = ask(Decimal(0))
    attempt.spend_some()
    spent = simulator.ledger().cost_usd
    attempt.client.set_flow_run_state(attempt.id, Cancelling())
    attempt.end()
    assert simulator.ledger().cost_usd == spent and exact(attempt, simulator)
    state = attempt.client.read_flow_run(attempt.id).state
    assert state is not None and (state.type.value, state.name) == ("CANCELLED", "Interrupted"), state


@pytest.mark.all
def test_the_cap_of_the_day_is_no_question(ask: Ask, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who raises the run's own cap would change nothing."""
    monkeypatch.setattr("tests.orchestration.test_approval.JOB", JOB.model_copy(update={"max_cost_per_day": SOME}))
    attempt = ask(Decimal(5))
    assert attempt.end().name == "Paused"
    assert 0 < simulator.ledger().cost_usd <= SOME and exact(attempt, simulator)
