"""How a run ends: the one table of causes, run statuses, exit statuses and Prefect's states."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tasks.asking.halting import Halt
from tasks.billing.pricing import usd
from tasks.errors import RowsFailed, VisionflowError
from tasks.reporting.serving import report_place
from tasks.text import printable

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
# Where Prefect logs, with its traceback, what it raises for a flow that has returned a state of failure.
LOGGERS = ("prefect.flow_runs", "prefect.engine")


@dataclass(frozen=True)
class End:
    """One way for a run to end."""

    status: str
    """The run's, in the table `runs` and the summary; also the kind of the Halt that ended it early."""
    cause: str
    exit_status: int
    """Of the command."""
    state_type: str
    state_name: str
    """Of the flow run."""


ENDS = {
    end.status: end
    for end in (
        End("completed", "every image has a good answer", 0, "COMPLETED", "Completed"),
        # No more of them than `max_failed` allows: the state of a completed run.
        End("completed_with_failures", "some rows failed and say why", 3, "FAILED", "RowsFailed"),
        End("paused", "the cap is reached", 4, "COMPLETED", "Paused"),
        End("waiting", "batches run on; the same command collects them", 5, "COMPLETED", "Waiting"),
        End("stopped", "something that every image needs is wrong", 1, "FAILED", "Failed"),
        End("interrupted", "it was told to end", 130, "CANCELLED", "Interrupted"),
    )
}


def status_of(halt: Halt | None, statuses: Counter[str], read_once: int = 0) -> str:
    """The run's status, by why it was halted, if it was, and how many rows have which status.

    `read_once` are rows with a good answer that were to be read a second time.
    """
    if halt is not None and (halt.error or statuses["unasked"] or statuses["unavailable"] or read_once):
        return halt.kind  # else the run was told to end when there was nothing left to ask
    return "completed" if statuses["ok"] == statuses.total() else "completed_with_failures"


def says_how_it_ends(body: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """The flow's body, whose errors on purpose become its last state: one sentence, without a traceback.

    Who called the flow gets them raised all the same: they are the state's result.
    """

    @wraps(body)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        from prefect.states import Failed

        from tasks.orchestration import events

        for name in LOGGERS:
            logging.getLogger(name).addFilter(_tells_more_than_the_state)
        try:
            return body(*args, **kwargs)
        except VisionflowError as error:
            events.tell_stop(error)
            state: Any = Failed(message=printable(str(error)), data=error)
            return state  # type: ignore[no-any-return]  # Prefect takes it for the flow's last

    return run


def last_state(run: "RunContext", summary: dict[str, Any], *, cancelled: bool = False) -> Any:
    """The flow's last state, with the summary as its result if it has one; raises what stopped the run.

    A run that was `cancelled` while it waited for a person says so: Prefect takes no other state from then on.
    The result of `RowsFailed` is the error of that name, which holds the summary.
    """
    from prefect.client.schemas.objects import State, StateType

    from tasks.orchestration import events
    from tasks.orchestration.progress import tell_end

    if run.halt and run.halt.error:
        run.halt.error.summary = summary
        raise run.halt.error
    tell_end(run, report_place(summary["report"]))
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
    events.tell_end(summary, end.state_type, end.state_name)
    if end.state_type == "CANCELLED":  # Prefect takes only an exception there
        data = None
    return State(type=StateType(end.state_type), name=end.state_name, message=message, data=data)


def _never_again() -> None:
    """Prefect's retry of the flow, where an operator has set one, is for what may pass: these rows were asked about."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run is None or not flow_run.empirical_policy.retries:
        return
    policy = flow_run.empirical_policy.model_copy(update={"retries": 0})
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, empirical_policy=policy)


def _tells_more_than_the_state(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], VisionflowError))
