"""Taking in the journals of dead runs, so that no paid call is missing from the ledger."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from tasks.asking.journal import Journal, Leftover, leftovers
from tasks.recording.writer import TableFile, run_folder, write_table_file
from tasks.storage.output import Output


def recover(output: Output, job: str, journal: Journal) -> list[dict[str, Any]]:
    """Complete the `calls` of every dead run of this job, and return the calls that were in flight when it died.

    Those are listed by the run that finds them, as `maybe` paid, with the time they were sent. They pass from the dead
    run's journal into `journal`, so that they are not lost if this run dies too. Raises OutputError.
    """
    maybe: list[dict[str, Any]] = []
    for left in leftovers(output.uri, job):
        _complete(output, job, left)
        for call in map(_maybe, left.in_flight):
            journal.ended(call)
            maybe.append(call)
        left.path.unlink(missing_ok=True)
    return maybe


def _complete(output: Output, job: str, left: Leftover) -> None:
    """Write the calls that had ended but were in no part yet. Raises OutputError if the parts cannot be read."""
    folder = run_folder("calls", job, left.run_id)
    recorded: set[int] = set()
    if output.list(folder):  # else the run died before its first part
        recorded.update(output.read_table(folder, columns=["call"]).column("call").to_pylist())
    missing = [_typed(call) for call in left.ended if call["call"] not in recorded]
    if missing:
        part = f"part-recovered-{left.path.stem}.parquet"  # a run of several processes leaves several journals
        write_table_file(TableFile(output, "calls", job, left.run_id, part), missing)


def _maybe(call: dict[str, Any]) -> dict[str, Any]:
    return {
        **_typed(call),
        "call": None,  # numbered by the dead run
        "outcome": "unknown",
        "paid": "maybe",
        "error": "In flight when an earlier run of this job ended without notice.",
        "cost_usd": Decimal(0),
    }


def _typed(call: dict[str, Any]) -> dict[str, Any]:
    row = {**call, "started_at": datetime.fromisoformat(call["started_at"])}
    if "cost_usd" in row:
        row["cost_usd"] = Decimal(row["cost_usd"])
    return row
