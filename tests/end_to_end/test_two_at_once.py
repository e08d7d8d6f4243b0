"""Two runs at once: an answer is paid once, the second waits and says for whom, and nobody waits for the dead."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log

from tasks.simulator import Simulator
from tests.flow_runs import flow_runs_of
from tests.runs import draw, end, hold, start, until

if TYPE_CHECKING:
    from tests.s3 import S3Server

IMAGES = 20
WAITS = re.compile(r"Waiting for run (\S+) \(process (\d+) on \S+, since \S+\), which is at work on the job job in ")


@pytest.fixture
def images(simulator: Simulator, tmp_path: Path) -> Path:
    """Images, at a simulator that takes a while for each."""
    simulator.change(latency=0.2)
    return draw(tmp_path / "images", IMAGES)


def command(images: Path, output: object, *more: object) -> list[object]:
    return ["run", images, "--output", output, "--concurrency", "2", "--json", "--name", "job", *more]


def asked(simulator: Simulator, count: int) -> Callable[[], bool]:
    return lambda: simulator.ledger(entries=False).billed >= count


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.all)])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "out")
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        yield f"s3://{server.bucket}/{tmp_path.name}"


def waiting(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The run and process that a command says it waits for."""
    assert process.stderr is not None
    for line in process.stderr:
        if said := WAITS.search(line):
            return said[1], said[2]
    raise AssertionError(f"it did not wait: {end(process)}")


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("prefect_server")
def test_two_identical_commands_pay_once(simulator: Simulator, images: Path, output: str) -> None:
    first = start(*command(images, output))
    until(asked(simulator, 2))
    hold(simulator, 2)
    second = start(*command(images, output))
    said = waiting(second)
    simulator.change(latency=0)
    simulator.let_go()
    ended, waited = end(first), end(second)

    assert (ended.status, waited.status) == (0, 0), waited.err
    assert (ended.summary["calls"], waited.summary["calls"]) == (IMAGES, 0)
    assert waited.summary["cached"] == IMAGES
    assert simulator.ledger().billed == simulator.ledger().requests == IMAGES
    assert said == (ended.summary["run_id"], str(first.pid))
    assert not WAITS.search(ended.err)

    with get_client(sync_client=True) as client:
        flow_run = flow_runs_of(output, client)[0]
        until(lambda: any(WAITS.search(log.message) for log in logs_of(client, flow_run.id)))


def logs_of(client: SyncPrefectClient, flow_run: UUID) -> list[Log]:
    only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
    return list(client.read_logs(log_filter=only))


@pytest.mark.usefixtures("prefect_server")
def test_the_first_is_killed_while_the_second_waits(simulator: Simulator, images: Path, output: str) -> None:
    """Both are of one machine and one home: even on S3 nobody waits for a lease to run out."""
    first = start(*command(images, output))
    until(asked(simulator, 4))
    hold(simulator, 2)
    second = start(*command(images, output))
    waiting(second)
    killed(first)
    simulator.change(latency=0)
    at = time.monotonic()
    waited = end(second)
    assert waited.status == 0, waited.err
    if output.startswith("s3://"):
        assert time.monotonic() - at < 55, "a lease lasts for a minute"
    assert waited.summary["ok"] == IMAGES
    assert waited.summary["cached"] >= 2
    assert simulator.ledger().billed <= IMAGES + 2, "two were in flight"


@pytest.mark.usefixtures("prefect_server")
def test_the_second_gives_up_when_the_first_is_still_at_work(simulator: Simulator, images: Path, output: str) -> None:
    simulator.change(latency=600)
    first = start(*command(images, output))
    until(lambda: simulator.ledger(entries=False).in_flight > 0)
    began = time.monotonic()
    ended = end(start(*command(images, output, "--timeout", "1")))
    assert ended.status == 1
    assert 11 <= time.monotonic() - began < 90
    line = ended.err.splitlines()[-1]
    assert re.match(r"visionflow: Run \S+ \(process \d+ on \S+, since \S+\) is still at work on the job job in ", line)
    assert line.endswith("Run the same command again when it has ended, or name another --output or --name.")
    assert "Traceback" not in ended.err
    flow_run = flow_runs_of(output)[0]
    assert flow_run.state is not None
    assert (flow_run.state.name, "is still at work" in str(flow_run.state.message)) == ("Failed", True)
    killed(first)
