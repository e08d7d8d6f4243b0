"""Who asked for a run: the operator, by a command or a call, or a form, a schedule or an automation of a deployment."""

import logging
import os
from typing import Any

from prefect.context import FlowRunContext
from prefect.exceptions import FailedRun
from prefect.states import Failed

from config.job import Job
from tasks.planning.trust import refusal

# A runner or a worker sets them for what it starts: flows within a deployment's flow have no deployment of their own.
STARTED = ("PREFECT__FLOW_RUN_ID", "PREFECT__DEPLOYMENT_NAME")
# Where Prefect logs the traceback of its own raising, for want of a result, of a state that a flow returned.
LOGGERS = ("prefect.flow_runs", "prefect.engine")


def refused(job: Job) -> Any:
    """The last state of a run that may not be: one sentence, no traceback, and nothing was read. Else None."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    by_deployment = flow_run is not None and flow_run.deployment_id is not None
    if not by_deployment and not any(name in os.environ for name in STARTED):
        return None
    why = refusal(job, (flow_run.job_variables if flow_run else None) or {})
    if why is None:
        return None
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_is_no_returned_state)
    return Failed(message=why)


def _is_no_returned_state(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))
