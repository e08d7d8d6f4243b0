"""Prefect's part of a fleet: the work pool and its workers, the shards' deployment, their flow runs and states."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import WorkerStatus
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner.storage import LocalStorage
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed

from tasks.errors import StopRun, UsageError
from tasks.orchestration.fleet.manifest import Manifest, gone_on_with
from tasks.planning.given import refusal
from tasks.planning.plan import Part, Plan
from tasks.storage.output import explained, open_output
from tasks.storage.records import keep_state_in
from tasks.storage.s3 import is_s3

# By the path of the module, so that a worker needs visionflow installed and no clone.
SHARD, RUN = "flows.fleet.shard", "flows.analyze_images.analyze_images"
SHARD_FLOW, RUN_FLOW = "analyze-images-shard", "analyze-images"
# As in deployments/prefect.yaml; a server that is away must not hold up a shard for long.
ENVIRONMENT = {
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "DO_NOT_TRACK": "1",
}


class WhereTheWorkerIs(LocalStorage):
    """Code that is installed. Without a step of its own Prefect copies the command's folder, images and all."""

    def to_pull_step(self) -> dict[str, Any]:
        """Stay in the folder in which the worker was started, of which relative paths are meant."""
        return {"prefect.deployments.steps.set_working_directory": {"directory": "."}}


def check_pool(pool: str) -> None:
    """Raise UsageError or StopRun unless a worker could take a shard now."""
    if not PREFECT_API_URL.value():
        raise UsageError("--pool needs a Prefect server that its workers reach too. Set PREFECT_API_URL to its URL.")
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            raise StopRun(
                f"There is no work pool {pool!r}. Make it: prefect work-pool create {pool} --type process"
            ) from None
        workers = client.read_workers_for_work_pool(pool)
    if not any(worker.status == WorkerStatus.ONLINE for worker in workers):
        raise StopRun(f"No worker of the pool {pool!r} is online. Start one: prefect worker start --pool {pool}")


def ready(plan: Plan) -> Plan:
    """The plan of a run that its pool's workers can share, or of the one that the same command has begun.

    Raises UsageError, StopRun or OutputError where they cannot: nothing was paid for.
    """
    assert plan.job.pool is not None
    if plan.job.mode != "online":
        raise UsageError("--pool is for calls online: a Message Batch needs no fleet. Leave out --mode or --pool.")
    check_pool(plan.job.pool)
    why = refusal(plan.job, {}, who="a job for a work pool")
    if why is not None:
        raise StopRun(why)
    if not is_s3(plan.output.uri):
        with explained(plan.output.uri):
            plan = replace(plan, output=open_output(os.path.abspath(plan.output.uri)))
            keep_state_in(plan.output.uri)
    return gone_on_with(plan)


def deploy(pool: str, source: str, output: str, job: dict[str, Any]) -> None:
    """Register the shards' deployment in the pool, and once, for the UI and schedules, the run's own."""
    _deployment(SHARD, pool, pool).apply()
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"{RUN_FLOW}/fleet")
        except ObjectNotFound:
            _deployment(RUN, "fleet", pool, {"source": source, "output": output, "job": job}).apply()


def _deployment(entrypoint: str, name: str, pool: str, parameters: dict[str, Any] | None = None) -> RunnerDeployment:
    deployment: RunnerDeployment = RunnerDeployment.from_entrypoint(
        entrypoint, name=name, work_pool_name=pool, parameters=parameters, job_variables={"env": ENVIRONMENT}
    )
    deployment.storage = WhereTheWorkerIs(".")
    return deployment


def start(pool: str, manifest: Manifest, part: Part) -> UUID:
    """Start a shard, once: asked again, it is the flow run that was started before."""
    flow_run: Any = run_deployment(
        f"{SHARD_FLOW}/{pool}",
        parameters={
            "output": manifest.output.uri,
            "job": manifest.job_name,
            "run_id": manifest.run_id,
            "number": part.number,
            "attempt": part.attempt,
        },
        timeout=0,
        idempotency_key=f"{manifest.run_id}/{part.number}/{part.attempt}",
        flow_run_name=f"{manifest.job_name} {part.number} of {manifest.shards}",
    )
    found: UUID = flow_run.id
    return found


def ended(flow_runs: Iterable[UUID]) -> dict[UUID, tuple[bool, str]]:
    """Those that have ended: whether by a failure of their own, and what Prefect says of it.

    Prefect's errors if the server is away.
    """
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(flow_runs)))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted)
    states = {one.id: one.state for one in found if one.state and one.state.is_final()}
    return {one: (state.is_failed(), state.message or state.name or "") for one, state in states.items()}


def crashed(flow_run: UUID, why: str) -> None:
    """Its process is gone, which Prefect would not say of one whose worker is gone too. Prefect's errors."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Crashed(message=why), force=True)


def cancel(flow_run: UUID) -> None:
    """No worker takes it any more. Prefect's errors."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run, Cancelled(message="The run has ended without it."))
