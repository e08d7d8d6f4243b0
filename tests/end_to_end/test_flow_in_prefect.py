"""The flow as Prefect sees it: task runs, their retries, and what its UI shows of a run."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun

from config.job import Job
from flows import analyze_images
from tasks.simulator import Simulator
from tests.flow_runs import flow_runs_of
from tests.runs import draw, picture, rows, sha

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(source: object, output: object, **options: Any) -> dict[str, Any]:
    summary: dict[str, Any] = analyze_images(str(source), str(output), Job(**options))
    return summary


def task_runs(flow_run: FlowRun, expected: int) -> list[TaskRun]:
    """Task runs as the UI shows them; they are recorded a moment after they ended."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    deadline = time.monotonic() + 90
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_task_runs(flow_run_filter=chosen, limit=200)
            ended = [one for one in found if one.state and one.state.is_final()]
            if len(ended) >= expected or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def test_prefect_retries_what_is_missing(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 3)
    simulator.set_faults(script={sha(picture(1)): ["500"]})
    summary = run(images, tmp_path / "out", attempts=3)

    assert summary["ok"] == 3
    assert rows(summary).set_index("name")["attempts"].to_dict() == {"p000.jpg": 1, "p001.jpg": 2, "p002.jpg": 1}
    calls = rows(summary, "calls").sort_values("call")
    assert calls[calls["image"].str.endswith("p001.jpg")]["outcome"].tolist() == ["failed", "answered"]
    counts = {one.name: one.run_count for one in task_runs(flow_runs_of(tmp_path / "out")[0], 7)}
    assert {name: count for name, count in counts.items() if name.startswith("ask")} == {
        "ask p000.jpg": 1,
        "ask p001.jpg": 2,
        "ask p002.jpg": 1,
    }


def test_prefects_ui_shows_every_image_of_a_small_run(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 3)
    (images / "damaged.jpg").write_bytes(b"\xff\xd8\xff nothing")
    first, second = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    first.save(images / "two.tiff", save_all=True, append_images=[second])
    run(images, tmp_path / "out")
    (flow_run,) = flow_runs_of(tmp_path / "out")
    names = ["damaged.jpg", "p000.jpg", "p001.jpg", "p002.jpg", "two.tiff"]
    found = task_runs(flow_run, 11)
    assert sorted(one.name for one in found) == sorted(
        ["report", *(f"{step} {name}" for step in ("prepare", "ask") for name in names)]
    )
    assert {one.state_name for one in found} == {"Completed"}
    with get_client(sync_client=True) as client:
        query = {"flow_runs": {"id": {"any_": [str(flow_run.id)]}}}
        artifacts = {one["key"]: one for one in client._client.post("/artifacts/filter", json=query).json()}
    assert set(artifacts) == {f"images-{what}" for what in ("progress", "summary", "costs", "failures")}
    assert artifacts["images-progress"]["data"] == 100
    assert "Simulated: no dollars were spent" in artifacts["images-summary"]["data"]
    for line in ("| images | 5 |", "| rows, one a page | 6 |", "| ok | 5 |", "| unreadable | 1 |"):
        assert line in artifacts["images-summary"]["data"]
    assert "damaged.jpg" in artifacts["images-failures"]["data"]


def test_a_larger_run_shares_task_runs_and_a_finished_one_makes_none(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 260)
    first = run(images, tmp_path / "out")
    assert (first["ok"], simulator.ledger().requests) == (260, 260)
    shared = Counter(one.name.split()[0] for one in task_runs(flow_runs_of(tmp_path / "out")[0], 93))
    assert shared["ask"] == shared["prepare"] < 60
    second = run(images, tmp_path / "out")
    assert (second["ok"], second["calls"]) == (260, 0)
    assert [one.name for one in task_runs(flow_runs_of(tmp_path / "out")[0], 1)] == ["report"]
