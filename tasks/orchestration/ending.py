"""How a run ends: the one table of causes, run statuses, exit statuses and Prefect's states."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.asking.halting import Halt
from tasks.billing.pricing import usd
from tasks.text import printable

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext


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
    """Of the flow run; a run that was stopped raises why, and Prefect makes that state."""


ENDS = {
    end.status: end
    for end in (
        End("completed", "every image has a good answer", 0, "COMPLETED", "Completed"),
        End("completed_with_failures", "some rows failed and say why", 3, "COMPLETED", "Completed"),
        End("paused", "the cap is reached", 4, "COMPLETED", "Paused"),
        End("stopped", "something that every image needs is wrong", 1, "FAILED", "Failed"),
        End("interrupted", "it was told to end", 130, "CANCELLED", "Interrupted"),
    )
}


def status_of(halt: Halt | None, statuses: Counter[str]) -> str:
    """The run's status, by why it was halted, if it was, and how many rows have which status."""
    if halt is not None and (halt.error or statuses["unasked"] or statuses["unavailable"]):
        return halt.kind  # else the run was told to end when there was nothing left to ask
    return "completed" if statuses["ok"] == statuses.total() else "completed_with_failures"


def last_state(run: "RunContext", summary: dict[str, Any]) -> Any:
    """The flow's last state, with the summary as its result if it has one; raises what stopped the run."""
    from prefect.client.schemas.objects import State, StateType

    if run.halt and run.halt.error:
        raise run.halt.error
    end = ENDS[summary["status"]]
    counts = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items())
    message = f"{printable(summary['message'] or '')} {counts}; {usd(summary['cost_usd'])}".strip()
    data = None if end.state_type == "CANCELLED" else summary  # Prefect takes only an exception there
    return State(type=StateType(end.state_type), name=end.state_name, message=message, data=data)
