"""Schedules that run: by `visionflow serve`, and through a work pool; and no service of the server dies meanwhile.

Nothing of Prefect is set here but where its database is: loops and polls have the lengths that a user gets.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import PauseDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.server.schemas.schedules import CronSchedule as ServerCron
from prefect.server.schemas.schedules import IntervalSchedule as ServerInterval
from prefect.server.schemas.schedules import RRuleSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running, Scheduled

from flows.cli.server_process import ServerProcess, log_path
from tasks.simulator import Simulator
from tests.deployments import NAMES, forget_deployments, stop_our_server
from tests.runs import ROOT, draw, run_table, start, until

IMAGES = 3
EVERY_S = 40
PUNCTUAL_S = 90
IN_USE_S = 300  # of all services: the slowest loop that a person waits for, the foreman's, looks at workers every 15 s
JOB = {"preset": "classification", "labels": ["cat", "dog"]}
POOL = "images"


@dataclass(frozen=True)
class Served:
    """A running `visionflow serve` with a server of its own, and a client of it."""

    process: subprocess.Popen[str]
    client: SyncPrefectClient
    environment: dict[str, str]

    def prefect(self, *arguments: str, cwd: Path = ROOT) -> "subprocess.Popen[str]":
        """`prefect ARGUMENTS` with this server."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        return subprocess.Popen(command, cwd=cwd, env=self.environment, text=True, stdout=-1, stderr=subprocess.STDOUT)

    def scheduled(self, deployment: str) -> list[FlowRun]:
        """The runs of a deployment that the scheduler made and that have ended, oldest first."""
        found = self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])),
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(deployment)])),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        )
        return [one for one in found if one.auto_scheduled]

    def ahead(self, deployment: str) -> list[FlowRun]:
        """The runs of a deployment that wait for two o'clock."""
        found = self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(deployment)])),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        return [
            one for one in found if one.expected_start_time and one.expected_start_time.strftime("%H:%M") == "02:00"
        ]

    def events(self, name: str) -> list[Any]:
        """Those of one kind."""
        asked = {"filter": {"event": {"name": [name]}}}
        return list(self.client.request("POST", "/events/filter", json=asked).json()["events"])

    def deployment(self, name: str) -> Any:
        return self.client.read_deployment_by_name(f"analyze-images/{name}").id


@pytest.fixture
def served(prefect_home: Path, simulator: Simulator) -> Iterator[Served]:
    serve = start("serve", PREFECT_API_URL=None, PREFECT_HOME=prefect_home, PYTHONUNBUFFERED=1)
    try:
        assert serve.stdout is not None
        assert any("Ctrl-C ends it" in line for line in serve.stdout), serve.communicate()
        noted = ServerProcess.noted()
        assert noted is not None
        environment = {**os.environ, "PREFECT_API_URL": noted.url, "PREFECT_HOME": str(prefect_home)}
        with temporary_settings({PREFECT_API_URL: noted.url}), get_client(sync_client=True) as client:
            until(lambda: _registered(client), seconds=180)
            yield Served(serve, client, environment)
            forget_deployments(client)
    finally:
        stop(serve)
        stop_our_server()


def stop(process: "subprocess.Popen[str]") -> str:
    """What it said in all; it is told to end as by Ctrl-C."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return out + (err or "")


def _registered(client: SyncPrefectClient) -> bool:
    with contextlib.suppress(ObjectNotFound):
        return all(client.read_deployment_by_name(name) for name in NAMES)
    return False


def parameters(tmp_path: Path, name: str, first: int) -> dict[str, Any]:
    """Those of a job over images of its own."""
    images = draw(tmp_path / f"images-{name}", IMAGES, start=first)
    return {"source": str(images), "output": str(tmp_path / name), "job": {**JOB, "name": "often"}}


def deployed(served: Served, tmp_path: Path) -> "subprocess.Popen[str]":
    """The deployment `by-worker` in a work pool, as prefect.yaml has `nightly`, and a worker in another folder."""
    text = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text(encoding="utf-8"))
    nightly = next(entry for entry in text["deployments"] if entry["name"] == "nightly")
    nightly |= {"name": "by-worker", "parameters": parameters(tmp_path, "by-worker", 100)}
    nightly["schedules"] = [{"interval": EVERY_S, "slug": "often", "active": True}]
    copy = tmp_path / "prefect.yaml"
    copy.write_text(yaml.safe_dump({**text, "deployments": [nightly]}), encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command in (
        ["work-pool", "create", POOL, "--type", "process", "--overwrite"],
        ["deploy", "--all", "--prefect-file", str(copy)],
    ):
        process = served.prefect(*command)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
    return served.prefect("worker", "start", "--pool", POOL, cwd=elsewhere)


def schedule_by_hand(served: Served, name: str, parameters: dict[str, Any]) -> None:
    """Give a served deployment another schedule, as a person does in the UI."""
    schedule = IntervalSchedule(interval=timedelta(seconds=EVERY_S))
    served.client.create_deployment_schedules(
        served.deployment(name), [DeploymentScheduleCreate(schedule=schedule, parameters=parameters, slug="often")]
    )


def test_schedules_run_by_themselves_and_a_later_run_skips_what_is_finished(
    served: Served, simulator: Simulator, tmp_path: Path
) -> None:
    schedule_by_hand(served, "nightly", parameters(tmp_path, "nightly", 200))
    worker = deployed(served, tmp_path)
    names = ("nightly", "by-worker")
    try:
        until(lambda: all(len(served.scheduled(name)) >= 2 for name in names), seconds=600)
    finally:
        said = stop(worker)
    assert served.ahead("nightly"), "the cron schedule of prefect.yaml has made no run"
    for name in names:
        ended = served.scheduled(name)
        assert [run.state_name for run in ended] == ["Completed"] * len(ended), (ended, said)
        first = min(ended, key=lambda run: str(run.start_time))  # later ones may wait for the one before
        assert first.start_time is not None and first.expected_start_time is not None
        late = first.start_time - first.expected_start_time
        assert abs(late) < timedelta(seconds=PUNCTUAL_S), f"{name}: {late}"  # a runner's clock may be early by moments
        runs = run_table(tmp_path / name)
        assert [list(row) for row in runs[["images", "calls", "cached"]].to_numpy()[:2]] == [[3, 3, 0], [3, 0, 3]]
    assert simulator.ledger().requests == 2 * IMAGES
    assert complaints(log_path().read_text(encoding="utf-8")) == []


@pytest.mark.all
def test_no_service_of_the_server_complains_in_five_minutes_of_use(served: Served, tmp_path: Path) -> None:
    """Scheduler, late runs, automations, events, foreman and a worker's heartbeats each do something meanwhile."""
    began = time.monotonic()
    schedule_by_hand(served, "nightly", parameters(tmp_path, "nightly", 200))
    served.client.create_automation(after_a_run(PauseDeployment(deployment_id=served.deployment("ad-hoc"))))
    late = served.client.create_flow_run(flow(nobody_runs), state=Scheduled())
    # By hand: of a run that was scheduled less than five minutes before, triggers wait for an event that is never sent.
    done = served.client.create_flow_run(flow(nobody_runs))
    served.client.set_flow_run_state(done.id, Running())
    served.client.set_flow_run_state(done.id, Completed())
    worker = deployed(served, tmp_path)
    until(lambda: served.scheduled("by-worker"), seconds=240)
    assert [one.status for one in served.client.read_workers_for_work_pool(POOL)] == ["ONLINE"]
    worker.kill()  # without a word, so that the foreman has to find it out
    said, _ = worker.communicate()
    time.sleep(max(began + IN_USE_S - time.monotonic(), 0))

    assert len(served.scheduled("nightly")) >= 2
    assert served.client.read_flow_run(late.id).state_name == "Late"
    assert served.events("prefect.automation.action.executed"), "an automation has seen an event"
    assert [one.status for one in served.client.read_workers_for_work_pool(POOL)] == ["OFFLINE"]
    assert complaints(said + stop(served.process) + log_path().read_text(encoding="utf-8")) == []


def nobody_runs() -> None:
    """A flow that no worker looks for."""


def after_a_run(action: PauseDeployment) -> AutomationCore:
    """What to do once any flow run has completed."""
    trigger = EventTrigger(
        expect={"prefect.flow-run.Completed"}, posture=Posture.Reactive, threshold=1, within=timedelta(0)
    )
    return AutomationCore(name="after a run", trigger=trigger, actions=[action])


SCHEDULES: list[Any] = [
    lambda zone: ServerCron(cron="0 2 * * *", timezone=zone),
    lambda zone: ServerInterval(interval=3600, timezone=zone or "UTC"),
    lambda zone: RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=2", timezone=zone or "UTC"),
]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cron", "interval", "rrule"])
def test_prefect_knows_the_next_dates_of_a_schedule(schedule: Any, zone: str | None) -> None:
    """What its scheduler calls in every loop; where that raises, only the server's log says so."""
    assert len(asyncio.run(schedule(zone).get_dates(3))) == 3


COMPLAINT = re.compile(r"traceback|\berror\b|exception|failed|can't evaluate", re.IGNORECASE)


def complaints(log: str) -> list[str]:
    """Lines that say that something went wrong."""
    return [line for line in log.splitlines() if COMPLAINT.search(line)]
