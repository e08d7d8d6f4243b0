"""What a run says in Prefect's log while it goes on and at its end, and what its artifacts show."""

import re
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter
from prefect.logging.handlers import APILogWorker

from flows import analyze_images
from tasks.orchestration import progress
from tasks.orchestration.progress import Standing, facts, pauses, progress_line
from tasks.simulator import Simulator
from tests.flow_runs import flow_runs_of
from tests.runs import draw


def test_a_line_has_all_figures_and_only_those_that_there_are() -> None:
    whole = Standing(300, 241, 368, 3, 12, 47, 16.2, Decimal("0.12"), Decimal(5))
    assert progress_line(whole) == "241 of 368 images, 16.2/s, $0.1200 of $5.00, 3 failed, 12 retried, 8 s left"
    assert progress_line(Standing(1, 0, 1, 0, 0, 1, 0.0, Decimal(0), None)) == "0 of 1 image, 0.0/s, $0.0000"
    waiting = Standing(9, 0, 9, 0, 0, 0, 0.0, Decimal(0), None, in_batches=9)
    assert progress_line(waiting) == "0 of 9 images, 9 in batches, 0.0/s, $0.0000"
    assert "in flight" not in facts(waiting)


def test_the_pace_is_steady_and_bounded() -> None:
    assert list(islice(pauses(), 8)) == [10.0] * 6 + [60.0] * 2


@pytest.mark.usefixtures("prefect_server")
def test_the_log_and_the_artifacts_of_a_run(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PACE_S", (0.2,) * 100)
    images = draw(tmp_path / "images", 6)
    for number in range(7):
        (images / f"bad{number}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    simulator.change(latency=0.4)
    summary: Any = analyze_images(
        str(images), str(tmp_path / "out"), {"name": "Photos", "concurrency": 1, "max_cost": "2"}
    )
    APILogWorker.instance().drain_all(timeout=90, at_exit=False)
    with get_client(sync_client=True) as client:
        (run,) = flow_runs_of(tmp_path / "out", client)
        logs = [one.message for one in client.read_logs(LogFilter(flow_run_id={"any_": [run.id]}))]
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        artifacts = {str(one.key): one for one in client.read_artifacts(artifact_filter=chosen)}
    asked = [line for line in logs if line.startswith("Asked ")]
    assert asked and all(re.search(r"/s, \$0\.0\d* of \$2\.00", line) for line in asked), logs
    assert any(", 7 failed, " in line and line.endswith(" left") for line in asked), asked
    assert sum(line.startswith("Unreadable bad") for line in logs) == progress.LOGGED_FAILURES
    assert f"Report: {summary['report']}" in logs
    keys = {key.rpartition("-")[2]: key for key in artifacts}
    assert set(keys) == {"progress", "summary", "costs", "failures"}
    assert len({key.rpartition("-")[0] for key in artifacts}) == 1
    page = str(artifacts[keys["summary"]].data)
    assert page.index("Report:") < page.index("| Cost | $0.0") < page.index("| images | 13 |")
    costs = str(artifacts[keys["costs"]].data)
    assert costs.startswith('[{"cost": "\\\\$0.0'), costs[:80]
    assert str(artifacts[keys["failures"]].description) == "7 failed rows"


@pytest.mark.usefixtures("prefect_server")
def test_the_table_of_batches_is_of_its_job(simulator: Simulator, tmp_path: Path) -> None:
    images, output = draw(tmp_path / "images", 1), str(tmp_path / "out")
    analyze_images(str(images), output, {"name": "by-batch", "mode": "batch"})
    with get_client(sync_client=True) as client:
        (run,) = flow_runs_of(output, client)
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        assert "by-batch-batches" in {one.key for one in client.read_artifacts(artifact_filter=chosen)}
