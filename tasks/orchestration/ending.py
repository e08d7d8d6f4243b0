"""Ending a run: what Prefect shows of how it ended."""

from typing import Any

from prefect.client.schemas.objects import State, StateType

from tasks.billing.pricing import usd
from tasks.orchestration.running import Run
from tasks.text import printable

# By the run's status: the state's type and its name in the UI.
ENDS = {
    "completed": (StateType.COMPLETED, "Completed"),
    "completed_with_failures": (StateType.COMPLETED, "Completed"),
    "paused": (StateType.COMPLETED, "Paused"),
    "interrupted": (StateType.CANCELLED, "Interrupted"),
}


def last_state(run: Run, summary: dict[str, Any]) -> Any:
    """The flow's last state, with the summary as its result if it has one; raises what stopped the run."""
    halt = run.engine.halt
    if halt and halt.error:
        raise halt.error
    state_type, name = ENDS[summary["status"]]
    counts = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items())
    message = f"{printable(summary['message'] or '')} {counts}; {usd(summary['cost_usd'])}".strip()
    data = None if state_type is StateType.CANCELLED else summary  # Prefect takes only an exception there
    return State(type=state_type, name=name, message=message, data=data)
