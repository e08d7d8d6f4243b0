"""Runs that wait for money or for batches, in processes of their own.

Money: answered, server away meanwhile, cancelled, runner ended. Batches: resumed, or collected by a schedule.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Suspended

from flows.cli.server_process import ServerProcess, start_server
from tasks.simulator import Simulator
from tests.deployments import stop_our_server
from tests.runs import draw, picture, run_table, start

IMAGES = 20
JOB = {"name": "asked", "prompt": "One word.", "max_tokens": 50, "concurrency": 2, "max_cost": "0"}

pytestmark = pytest.mark.all


@dataclass
class Served:
    """A `visionflow serve` with a server of its own; its `ad-hoc` has no limit, so that runs wait in their process."""

    process: "subprocess.Popen[str]"
    client: SyncPrefectClient
    tmp_path: Path

    def run(self, until: str = "Paused", **job: Any) -> FlowRun:
        """A run that is paused before its first call, or comes to another state."""
        deployment = self.client.read_deployment_by_name("analyze-images/ad-hoc")
        given = {"source": str(self.tmp_path / "images"), "output": str(self.tmp_path / "out"), "job": {**JOB, **job}}
        run = self.client.create_flow_run_from_deployment(deployment.id, parameters=given)
        self.until(run, until)
        return run

    def until(self, run: FlowRun, name: str) -> None:
        """Wait for a state of a run."""

        def there() -> bool:
            state = self.client.read_flow_run(run.id).state
            return state is not None and state.name == name

        wait_for(there)

    def answer(self, run: FlowRun, dollars: float) -> None:
        """As soon as there is a form."""
        wait_for(lambda: self.client.resume_flow_run(run.id, {"max_cost": dollars}).status.value == "ACCEPT")


def wait_for(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.HTTPError, ObjectNotFound, FileNotFoundError):
            if true():
                return
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.3)


@pytest.fixture
def served(prefect_home: Path, simulator: Simulator, tmp_path: Path) -> Iterator[Served]:
    assert simulator.url
    draw(tmp_path / "images", IMAGES)
    process = start("serve", PREFECT_API_URL=None, PREFECT_HOME=prefect_home, PYTHONUNBUFFERED=1)
    try:
        assert process.stdout is not None
        assert any("Ctrl-C ends it" in line for line in process.stdout), process.communicate()
        noted = ServerProcess.noted()
        assert noted is not None
        with temporary_settings({PREFECT_API_URL: noted.url}), get_client(sync_client=True) as client:
            wait_for(lambda: client.read_deployment_by_name("analyze-images/ad-hoc"))
            deployment = client.read_deployment_by_name("analyze-images/ad-hoc")
            client.update_deployment(deployment.id, DeploymentUpdate(concurrency_limit=None))
            yield Served(process, client, tmp_path)
    finally:
        end(process)
        stop_our_server()


def end(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def test_a_paused_run_outlives_its_server_and_its_runner(
    served: Served, simulator: Simulator, tmp_path: Path, prefect_home: Path
) -> None:
    run = served.run()
    said = time.monotonic()
    served.answer(run, 0.0015)
    wait_for(lambda: simulator.ledger().requests)
    assert time.monotonic() - said < 30, "it goes on within seconds"
    served.until(run, "Paused")
    spent = simulator.ledger().cost_usd

    noted = ServerProcess.noted()
    assert noted is not None
    noted.stop()
    noted.wait_for_end()
    time.sleep(5)  # some looks of the run's at a server that is away
    port = int(noted.url.removesuffix("/api").rpartition(":")[2])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_HOME", str(prefect_home))
        server = start_server(port, tmp_path / "server.log")
    try:
        served.answer(run, 1)
        served.until(run, "Completed")
        assert simulator.ledger().requests == IMAGES and simulator.ledger().cost_usd > spent
        assert run_table(tmp_path / "out")["cost_usd"].sum() == simulator.ledger().cost_usd
        (tmp_path / "images" / "late.jpg").write_bytes(picture(900))
        cancelled = served.run()
        served.client.set_flow_run_state(cancelled.id, Cancelling())
        served.until(cancelled, "Interrupted")
    finally:
        end(served.process)
        server.terminate()
        server.wait()


def test_a_paused_run_is_cancelled_and_one_whose_runner_ends_is_suspended(
    served: Served, simulator: Simulator, tmp_path: Path
) -> None:
    cancelled, left = served.run(), served.run()
    served.client.set_flow_run_state(cancelled.id, Cancelling())
    wait_for(lambda: str(served.client.read_flow_run(cancelled.id).state_type) == "StateType.CANCELLED")
    end(served.process)
    assert served.process.returncode == 0
    served.until(left, "Suspended")
    assert simulator.ledger().requests == 0
    table = run_table(tmp_path / "out")
    assert list(table["status"]) == ["paused"] * 2 and list(table["unasked"]) == [IMAGES] * 2


BY_BATCH = {"mode": "batch", "no_wait": True, "max_cost": "1"}


def collected(tmp_path: Path, simulator: Simulator) -> None:
    """One batch, and all of it in the tables, once."""
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, ledger.requests) == (1, IMAGES, 0)
    runs = run_table(tmp_path / "out")
    assert runs["status"].iloc[0] == "waiting" and runs["status"].iloc[-1] == "completed"
    assert runs["calls"].sum() == runs["ok"].iloc[-1] == IMAGES
    assert runs["cost_usd"].sum() == ledger.cost_usd


def test_a_run_that_left_its_batches_is_resumed_to_collect_them(
    served: Served, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.change(batch_latency=60.0)
    run = served.run("Suspended", **BY_BATCH)
    state = served.client.read_flow_run(run.id).state
    assert state is not None and "1 Message Batch runs on" in str(state.message)
    assert served.client.resume_flow_run(run.id).status.value == "ACCEPT"
    wait_for(lambda: len(run_table(tmp_path / "out")) == 2)  # too early
    served.until(run, "Suspended")
    wait_for(lambda: simulator.ledger().billed == IMAGES)
    time.sleep(1)
    assert served.client.resume_flow_run(run.id).status.value == "ACCEPT"
    served.until(run, "Completed")
    collected(tmp_path, simulator)


def test_the_next_run_of_a_schedule_collects_what_one_before_has_left(
    served: Served, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.change(batch_latency=20.0)
    given = {"source": str(tmp_path / "images"), "output": str(tmp_path / "out"), "job": {**JOB, **BY_BATCH}}
    nightly = served.client.read_deployment_by_name("analyze-images/nightly")
    schedule = IntervalSchedule(interval=timedelta(seconds=30))
    served.client.create_deployment_schedules(
        nightly.id, [DeploymentScheduleCreate(schedule=schedule, parameters=given, slug="often")]
    )
    wait_for(lambda: run_table(tmp_path / "out")["status"].iloc[-1] == "completed", seconds=200)
    collected(tmp_path, simulator)
    ended = served.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Waiting"])))
    )
    assert ended and all(one.auto_scheduled for one in ended), "no worker is held, and nobody has to resume it"


def test_a_run_that_is_suspended_while_it_waits_leaves_its_batch_and_resumes_it(
    served: Served, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.change(batch_latency=20.0)
    run = served.run("Running", mode="batch", max_cost="1")
    wait_for(lambda: simulator.ledger().batches)
    served.client.set_flow_run_state(run.id, Suspended())
    wait_for(lambda: len(run_table(tmp_path / "out")) == 1)
    wait_for(lambda: served.client.resume_flow_run(run.id).status.value == "ACCEPT")
    served.until(run, "Completed")
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests) == (1, IMAGES)
    assert run_table(tmp_path / "out")["cost_usd"].sum() == ledger.cost_usd
