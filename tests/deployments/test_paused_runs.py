"""Runs that wait for money, in processes of their own: answered, server away meanwhile, cancelled, runner ended."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

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

    def run(self) -> FlowRun:
        """A run that is paused before its first call."""
        deployment = self.client.read_deployment_by_name("analyze-images/ad-hoc")
        given = {"source": str(self.tmp_path / "images"), "output": str(self.tmp_path / "out"), "job": JOB}
        run = self.client.create_flow_run_from_deployment(deployment.id, parameters=given)
        self.until(run, "Paused")
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
        with suppress(httpx.HTTPError, ObjectNotFound):
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
