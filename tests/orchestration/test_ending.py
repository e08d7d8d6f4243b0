"""How a run ends in Prefect: the state a person sees, by the share of rows that failed and by what stopped it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.logging.handlers import APILogWorker

from config.job import Job
from flows import analyze_images
from flows.analyze_images import analyze_images as analyze_images_flow
from tasks.errors import RowsFailed, StopRun
from tasks.simulator import Simulator
from tests.flow_runs import flow_runs_of
from tests.runs import draw

pytestmark = pytest.mark.usefixtures("simulator")
ONE_IN_FOUR = "1 of 4 rows failed (max_failed is 0): 3 ok, 1 unreadable; $"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures and one that no run can answer."""
    images = draw(tmp_path / "images", 3)
    (images / "damaged.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return images


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def flow_run_of(client: SyncPrefectClient, output: Path) -> FlowRun:
    """The one flow run that wrote there."""
    (found,) = flow_runs_of(output, client)
    return found


@pytest.mark.parametrize(
    ("max_failed", "state"),
    [(0.0, (StateType.FAILED, "RowsFailed")), (0.25, (StateType.COMPLETED, "Completed"))],
)
def test_failed_rows_are_a_failure_of_the_run_unless_the_job_allows_them(
    client: SyncPrefectClient, images: Path, tmp_path: Path, max_failed: float, state: tuple[StateType, str]
) -> None:
    summary: Any = analyze_images(str(images), str(tmp_path / "out"), {"name": "job", "max_failed": max_failed})
    assert (summary["status"], summary["failed"]) == ("completed_with_failures", 1), "Python gets its summary"
    ended = flow_run_of(client, tmp_path / "out").state
    assert ended is not None and (ended.type, ended.name) == state
    assert str(ended.message).startswith(ONE_IN_FOUR if max_failed == 0 else "3 ok, 1 unreadable; $")


def test_a_retry_that_prefect_was_told_to_make_is_not_for_failed_rows(
    client: SyncPrefectClient, simulator: Simulator, images: Path, tmp_path: Path
) -> None:
    flow = analyze_images_flow.with_options(retries=2)
    state: Any = flow(str(images), str(tmp_path / "out"), Job(name="job"), return_state=True)
    assert state.name == "RowsFailed"
    error = state.result(raise_on_failure=False)
    assert isinstance(error, RowsFailed) and error.summary["ok"] == 3
    assert flow_run_of(client, tmp_path / "out").run_count == 1
    assert simulator.ledger().requests == 3


def test_what_stops_a_run_is_its_state_in_one_sentence_and_no_traceback(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(StopRun, match="nowhere"):
        analyze_images(str(nowhere), str(tmp_path / "out"))
    flow_run = flow_run_of(client, tmp_path / "out")
    ended = flow_run.state
    assert ended is not None and (ended.type, ended.name) == (StateType.FAILED, "Failed")
    assert str(nowhere) in str(ended.message) and "\n" not in str(ended.message)
    APILogWorker.instance().drain_all(timeout=90, at_exit=False)
    logs = client.read_logs(LogFilter(flow_run_id={"any_": [flow_run.id]}))
    assert logs and not any("Traceback" in one.message for one in logs)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"concurrency": 5000}, "job.concurrency: 5000 is not allowed: it must be at most 1000."),
        ({"results": {"max_failed": "much"}}, "job.max_failed: 'much' is no number."),
        ({"colour": "red"}, "job.colour: this is a setting that does not exist."),
        ({"preset": "nope"}, "There is no preset 'nope'."),
        ("all", "job: 'all' is no job, which has settings by name."),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be_is_said_in_one_sentence(
    client: SyncPrefectClient, images: Path, tmp_path: Path, job: Any, said: str
) -> None:
    state: Any = analyze_images_flow(str(images), str(tmp_path / "out"), job, return_state=True)
    assert state.is_failed() and said in str(state.message) and "\n" not in str(state.message)
    assert not (tmp_path / "out").exists()
    assert flow_run_of(client, tmp_path / "out").state_name == "Failed"
