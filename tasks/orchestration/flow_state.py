"""A flow run's last state: how a run ended, said by Prefect, with the summary or the reason as its result."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.states import Failed

from tasks.billing.pricing import usd
from tasks.errors import RowsFailed, VisionflowError
from tasks.orchestration.ending import ENDS
from tasks.orchestration.events import tell_end, tell_stop
from tasks.orchestration.pausing import suspend
from tasks.orchestration.progress import log_end
from tasks.reporting.served_reports import report_place
from tasks.text import printable

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
# Where Prefect logs, with its traceback, what it raises for a flow that has returned a state of failure.
LOGGERS = ("prefect.flow_runs", "prefect.engine")


def says_how_it_ends(body: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """The flow's body, whose errors on purpose become its last state: one sentence, without a traceback.

    Who called the flow gets them raised all the same: they are the state's result.
    """

    @wraps(body)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_tells_more_than_the_state)
        try:
            return body(*args, **kwargs)
        except VisionflowError as error:
            tell_stop(error)
            state: Any = Failed(message=printable(str(error)), data=error)
            return state  # type: ignore[no-any-return]  # Prefect takes it for the flow's last

    return run


def last_state(run: "RunContext", summary: dict[str, Any], *, cancelled: bool = False) -> Any:
    """The flow's last state, with the summary as its result if it has one; raises what stopped the run.

    Raises Prefect's Pause for a run whose batches nobody waits for, where a person may resume it to collect them.
    A run that was `cancelled` while it waited for a person says so: Prefect takes no other state from then on.
    The result of `RowsFailed` is the error of that name, which holds the summary.
    """
    if run.halt and run.halt.error:
        run.halt.error.summary = summary
        raise run.halt.error
    log_end(run, report_place(summary["report"]))
    end = ENDS["interrupted" if cancelled and summary["status"] == "paused" else summary["status"]]
    most = run.plan.job.max_failed
    if end.state_name == "RowsFailed" and summary["failed"] / summary["rows"] <= most:
        end = ENDS["completed"]
    counts = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items())
    message = f"{printable(summary['message'] or '')} {counts}; {usd(summary['cost_usd'])}".strip()
    data: Any = summary
    if end.state_name == "RowsFailed":
        said = f"{summary['failed']:,} of {summary['rows']:,} rows failed (max_failed is {most:g})"
        message = f"{said}: {message}"
        data = RowsFailed(message, summary)
        _never_again()
    tell_end(summary, end)
    if end.status == "waiting":
        suspend(message, run.plan.run_id)
    if end.state_type == "CANCELLED":  # Prefect takes only an exception there
        data = None
    return State(type=StateType(end.state_type), name=end.state_name, message=message, data=data)


def _never_again() -> None:
    """Prefect's retry of the flow, where an operator has set one, is for what may pass: these rows were asked about."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run is None or not flow_run.empirical_policy.retries:
        return
    policy = flow_run.empirical_policy.model_copy(update={"retries": 0})
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, empirical_policy=policy)


def _tells_more_than_the_state(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], VisionflowError))
