"""What Prefect is told of a run: events, by which automations of its open-source server tell a person.

Sending an event puts it into a queue of Prefect's, which a thread of its own empties: a server that is gone costs the
run nothing, and no event is worth a run.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prefect.context import FlowRunContext
from prefect.events import emit_event

from config.settings import alert_per_day
from tasks.billing.bill import spent_today
from tasks.errors import VisionflowError
from tasks.orchestration.ending import ENDS, End
from tasks.orchestration.progress import beside
from tasks.planning.given import checked_setting
from tasks.storage.conditional import write_mark

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext
    from tasks.planning.plan import Plan

SPEND_POLL_S = 5.0
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


def tell_end(summary: Mapping[str, Any], end: End, **more: Any) -> None:
    """`visionflow.run.finished`, `failed` or `paused`, with the run's summary."""
    _send(f"run.{end.event}", summary["run_id"], summary["job"], {**summary, **more})


def tell_stop(error: VisionflowError) -> None:
    """`visionflow.run.failed`, with the run's summary if it came so far that it has one."""
    if error.summary:
        tell_end(error.summary, ENDS["stopped"], message=str(error))
    elif context := FlowRunContext.get():
        flow_run = context.flow_run
        run = str(flow_run.id) if flow_run else ""
        _send("run.failed", run, flow_run.name if flow_run else "", {"status": "stopped", "message": str(error)})


@contextmanager
def day_watched(run: "RunContext") -> Iterator[None]:
    """Within, `visionflow.spend.passed` is sent as soon as the ledger of the day passes VISIONFLOW_ALERT_PER_DAY."""
    limit = checked_setting(alert_per_day)
    if limit is None:
        yield
        return
    before = spent_today(run.plan.output)

    def look(ended: threading.Event) -> None:
        with suppress(Exception):
            while before + run.recorder.bill.cost_usd < limit and not ended.wait(SPEND_POLL_S):
                pass
            if not ended.is_set():
                _tell_passed(run.plan, before + run.recorder.bill.cost_usd, limit)

    with beside(look, "spend", patience=0):
        yield


def tell_if_passed(plan: "Plan") -> None:
    """The same at a run's end, by what the tables say: a run may have gone on over midnight."""
    with suppress(Exception):
        limit = checked_setting(alert_per_day)
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
