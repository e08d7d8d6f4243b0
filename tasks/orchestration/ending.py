"""How a run ends: the one table of causes, run statuses, exit statuses, Prefect's states, events and labels."""

from collections import Counter
from dataclasses import dataclass

from tasks.asking.halting import Halt


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
    event: str
    """The last part of the name of Prefect's event."""
    label: str
    """On the screen."""


ENDS = {
    end.status: end
    for end in (
        End("completed", "every image has a good answer", 0, "COMPLETED", "Completed", "finished", "Done"),
        # No more of them than `max_failed` allows: the state of a completed run.
        End("completed_with_failures", "some rows failed and say why", 3, "FAILED", "RowsFailed", "failed", "Done"),
        End("paused", "the cap is reached", 4, "COMPLETED", "Paused", "paused", "Paused"),
        End(
            "waiting",
            "batches run on; the same command collects them",
            5,
            "COMPLETED",
            "Waiting",
            "finished",
            "Waiting",
        ),
        End("stopped", "something that every image needs is wrong", 1, "FAILED", "Failed", "failed", "Stopped"),
        End("interrupted", "it was told to end", 130, "CANCELLED", "Interrupted", "finished", "Stopped"),
    )
}


def status_of(halt: Halt | None, statuses: Counter[str], read_once: int = 0) -> str:
    """The run's status, by why it was halted, if it was, and how many rows have which status.

    `read_once` are rows with a good answer that were to be read a second time.
    """
    if halt is not None and (halt.error or statuses["unasked"] or statuses["unavailable"] or read_once):
        return halt.kind  # else the run was told to end when there was nothing left to ask
    return "completed" if statuses["ok"] == statuses.total() else "completed_with_failures"
