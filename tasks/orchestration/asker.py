"""Who asked for a run: the operator, by a command or a call, or a form, a schedule or an automation of a deployment."""

import os
from collections.abc import Mapping
from typing import Any

from prefect.context import FlowRunContext

from config.job import Job
from tasks.errors import StopRun, UsageError
from tasks.planning.given import job_of
from tasks.planning.trust import refusal

# A runner or a worker sets them for what it starts: flows within a deployment's flow have no deployment of their own.
STARTED = ("PREFECT__FLOW_RUN_ID", "PREFECT__DEPLOYMENT_NAME")


def accepted(source: object, output: object, job: Job | Mapping[str, Any]) -> Job:
    """The job that was asked for, before anything is read.

    Raises UsageError for a parameter that cannot be, and StopRun for what a form may not ask for. Prefect would say the
    first in several lines, with the values of all.
    """
    for name, place in (("source", source), ("output", output)):
        if not isinstance(place, str) or not place.strip():
            raise UsageError(f"{name}: {place!r} is no path and no URI.")
    job = job_of(job)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    by_deployment = flow_run is not None and flow_run.deployment_id is not None
    if by_deployment or any(name in os.environ for name in STARTED):
        why = refusal(job, (flow_run.job_variables if flow_run else None) or {})
        if why is not None:
            raise StopRun(why)
    return job
