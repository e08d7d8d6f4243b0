"""Who asked for a run: the operator, by a command or a call, or a form, a schedule or an automation of a deployment."""

import os

from prefect.context import FlowRunContext

from config.job import Job
from tasks.errors import StopRun
from tasks.planning.trust import refusal

# A runner or a worker sets them for what it starts: flows within a deployment's flow have no deployment of their own.
STARTED = ("PREFECT__FLOW_RUN_ID", "PREFECT__DEPLOYMENT_NAME")


def check_asker(job: Job) -> None:
    """Raise StopRun, before anything is read, for what a form may not ask for."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    by_deployment = flow_run is not None and flow_run.deployment_id is not None
    if not by_deployment and not any(name in os.environ for name in STARTED):
        return
    why = refusal(job, (flow_run.job_variables if flow_run else None) or {})
    if why is not None:
        raise StopRun(why)
