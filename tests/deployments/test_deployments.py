"""The deployments: accepted by Prefect, run by a worker that knows nothing of this folder, and served."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from flows.cli.registering import deployment_of
from tasks.simulator import Simulator
from tests.deployments import NAMES, forget_deployments
from tests.runs import ROOT, draw, run_table, start


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
        forget_deployments(client)


def prefect(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def ended(client: SyncPrefectClient, flow_run: FlowRun, seconds: float = 90) -> FlowRun:
    deadline = time.monotonic() + seconds
    while True:
        current = client.read_flow_run(flow_run.id)
        if current.state is not None and current.state.is_final():
            return current
        assert time.monotonic() < deadline, f"still {current.state}"
        time.sleep(0.3)


def until_served(client: SyncPrefectClient, seconds: float = 90) -> None:
    """Wait until both are registered. (Served before they are deployed: Prefect never forgets a work pool.)"""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ObjectNotFound):
            for name in NAMES:
                client.read_deployment_by_name(name)
            return
        assert time.monotonic() < deadline, "not served"
        time.sleep(0.2)


def ad_hoc(client: SyncPrefectClient, tmp_path: Path, name: str) -> FlowRun:
    """A run of three images, started as the UI starts one."""
    images = draw(tmp_path / "images", 3)
    parameters: dict[str, Any] = {
        "source": str(images),
        "output": str(tmp_path / name),
        "job": {"preset": "classification", "labels": ["cat", "dog"]},
    }
    deployment = client.read_deployment_by_name(NAMES[0])
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def test_serve_runs_what_is_started_from_the_ui(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path
) -> None:
    process = start("serve", PREFECT_RUNNER_POLL_FREQUENCY=1, PYTHONUNBUFFERED=1)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        assert all(said), process.communicate()
        assert [line.split()[-1] for line in said[:2]] == [NAMES[1], NAMES[0]]
        assert f"UI        {os.environ['PREFECT_API_URL'].removesuffix('/api')}" in said[2]
        until_served(client)
        finished = ended(client, ad_hoc(client, tmp_path, "served"))
        assert finished.state_name == "Completed"
        assert run_table(tmp_path / "served")["ok"][0] == 3
        assert simulator.ledger().requests == 3
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert "Traceback" not in err + out


@pytest.mark.all
def test_a_worker_in_another_folder_runs_what_was_deployed(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path
) -> None:
    client.create_work_pool(WorkPoolCreate(name="images", type="process"), overwrite=True)
    deployed = prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    nightly = client.read_deployment_by_name(NAMES[1])
    assert [schedule.schedule.cron for schedule in nightly.schedules] == ["0 2 * * *"]  # type: ignore[union-attr]
    assert nightly.parameters["job"]["schema"] == "document"
    assert "samples" not in nightly.parameters["source"] and "nightly" in nightly.tags

    flow_run = ad_hoc(client, tmp_path, "by-worker")
    samples = client.create_flow_run_from_deployment(
        nightly.id,
        parameters={
            "source": "data/samples",
            "output": str(tmp_path / "nightly"),
            "job": {"limit": 1, "name": "nightly"},
        },
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "images", "--run-once"]
    worker = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=150, check=False)
    finished = ended(client, flow_run)
    assert finished.state is not None and finished.state.name == "Completed", worker.stdout + worker.stderr
    assert "3 ok" in str(finished.state.message)
    assert run_table(tmp_path / "by-worker")["ok"][0] == 3
    logs = [one.message for one in client.read_logs(LogFilter(flow_run_id={"any_": [flow_run.id]}))]
    for beginning in ("Listed 3 images", "To ask: 3 images", "Finished in state Completed('3 ok"):
        assert sum(line.startswith(beginning) for line in logs) == 1, logs
    assert len(logs) <= 15, logs
    # The path of the samples is relative to the clone, wherever the worker is.
    assert ended(client, samples).state_name == "Completed"
    assert run_table(tmp_path / "nightly")["images"][0] == 1
    assert simulator.ledger().requests == 4


@pytest.mark.usefixtures("prefect_server")
def test_what_is_registered_already_keeps_what_was_set_since() -> None:
    """Only fields that are ours are sent again, unless the entry itself has changed."""
    entry = {"name": f"nightly-{uuid4().hex[:8]}", "schedules": [{"cron": "0 2 * * *"}], "tags": ["ours"]}
    new = deployment_of(entry)
    assert new.tags == ["ours"] and len(new.schedules or ()) == 1
    new.apply()
    assert deployment_of(entry).model_fields_set == {"name", "flow_name", "entrypoint", "description", "version"}
    assert deployment_of({**entry, "tags": ["others"]}).tags == ["others"]


@pytest.mark.all
def test_serving_again_keeps_what_was_set_in_the_ui(client: SyncPrefectClient, simulator: Simulator) -> None:
    """Schedule off, another output, a tag; an older release's registration, whose version says nothing, alike."""

    def serve_once() -> None:
        process = start("serve", PYTHONUNBUFFERED=1)
        began = datetime.now(UTC)
        try:
            deadline = time.monotonic() + 90
            until_served(client, 90)
            while any((client.read_deployment_by_name(name).updated or began) <= began for name in NAMES):
                assert time.monotonic() < deadline, "not registered"
                time.sleep(0.3)
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err

    serve_once()
    nightly = client.read_deployment_by_name(NAMES[1])
    (schedule,) = nightly.schedules
    client.update_deployment_schedule(nightly.id, schedule.id, active=False)
    set_by_hand = {"source": "s3://acme/photos", "output": "s3://acme/facts", "job": {"preset": "classification"}}
    client.update_deployment(nightly.id, DeploymentUpdate(parameters=set_by_hand, tags=["mine"]))
    for version in (nightly.version, "of another release"):
        client.update_deployment(nightly.id, DeploymentUpdate(version=version))
        serve_once()
        again = client.read_deployment_by_name(NAMES[1])
        assert [one.active for one in again.schedules] == [False]
        assert (again.parameters, again.tags, again.version) == (set_by_hand, ["mine"], nightly.version)
