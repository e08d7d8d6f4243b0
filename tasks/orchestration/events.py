"""What Prefect is told of a run: events, by which automations of its open-source server tell a person, and its end.

Sending an event puts it into a queue of Prefect's, which a thread of its own empties: a server that is gone costs the
run nothing, and no event is worth a run.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.states import Failed

from config.settings import alert_per_day
from tasks.billing.bill import spent_today
from tasks.billing.pricing import usd
from tasks.errors import RowsFailed, VisionflowError
from tasks.orchestration.ending import ENDS
from tasks.orchestration.pausing import suspend
from tasks.orchestration.progress import beside, log_end
from tasks.planning.given import said
from tasks.reporting.serving import report_place
from tasks.storage.conditional import write_mark
from tasks.text import printable

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext
    from tasks.planning.plan import Plan

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")
# Where Prefect logs, with its traceback, what it raises for a flow that has returned a state of failure.
LOGGERS = ("prefect.flow_runs", "prefect.engine")
# What a run's last state says of it, by the state's type and name.
KINDS = {"FAILED": "failed", "Paused": "paused"}
LOOK_S = 5.0
MARKS = ".visionflow/spend-passed"


def tell_start(run: "RunContext", to_ask: int, estimate: Decimal | None) -> None:
    """`visionflow.run.started`: all is listed, nothing was asked yet."""
    plan = run.plan
    facts = {
        "images": len(plan.listing.images),
        "to_ask": to_ask,
        "estimate_usd": None if estimate is None else float(estimate),
        "max_cost_usd": None if plan.job.max_cost is None else float(plan.job.max_cost),
        "simulated": plan.simulated,
        "source": plan.listing.source,
        "output": plan.output.uri,
    }
    _send("run.started", plan.run_id, plan.name, facts)


def tell_end(summary: Mapping[str, Any], state_type: str, state_name: str, **more: Any) -> None:
    """`visionflow.run.finished`, `failed` or `paused`, with the run's summary."""
    kind = KINDS.get(state_type) or KINDS.get(state_name) or "finished"
    _send(f"run.{kind}", summary["run_id"], summary["job"], {**summary, **more})


def tell_stop(error: VisionflowError) -> None:
    """`visionflow.run.failed`, with the run's summary if it came so far that it has one."""
    if error.summary:
        tell_end(error.summary, "FAILED", "Failed", message=str(error))
    elif context := FlowRunContext.get():
        flow_run = context.flow_run
        run = str(flow_run.id) if flow_run else ""
        _send("run.failed", run, flow_run.name if flow_run else "", {"status": "stopped", "message": str(error)})


@contextmanager
def day_watched(run: "RunContext") -> Iterator[None]:
    """Within, `visionflow.spend.passed` is sent as soon as the ledger of the day passes VISIONFLOW_ALERT_PER_DAY."""
    limit = said(alert_per_day)
    if limit is None:
        yield
        return
    before = spent_today(run.plan.output)

    def look(ended: threading.Event) -> None:
        with suppress(Exception):
            while before + run.recorder.bill.cost_usd < limit and not ended.wait(LOOK_S):
                pass
            if not ended.is_set():
                _tell_passed(run.plan, before + run.recorder.bill.cost_usd, limit)

    with beside(look, "spend", patience=0):
        yield


def tell_if_passed(plan: "Plan") -> None:
    """The same at a run's end, by what the tables say: a run may have gone on over midnight."""
    with suppress(Exception):
        limit = said(alert_per_day)
        if limit is not None and (spent := spent_today(plan.output)) >= limit:
            _tell_passed(plan, spent, limit)


def _tell_passed(plan: "Plan", spent: Decimal, limit: Decimal) -> None:
    """Once a day and output, whichever run comes first."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    if write_mark(plan.output, f"{MARKS}/{day}", plan.run_id.encode()):
        facts = {"day": day, "spent_usd": float(spent), "limit_usd": float(limit), "simulated": plan.simulated}
        _send("spend.passed", plan.run_id, plan.name, {**facts, "output": plan.output.uri})


def _send(event: str, run_id: str, job: str, payload: dict[str, Any]) -> None:
    if FlowRunContext.get() is None:  # the flow's function, called without Prefect
        return
    resource = {"prefect.resource.id": f"visionflow.run.{run_id}", "prefect.resource.name": job}
    with suppress(Exception):
        emit_event(f"visionflow.{event}", resource=resource, payload=payload)


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
    tell_end(summary, end.state_type, end.state_name)
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
