"""The bill and the last row of a run that ended without notice, from the tables that it left."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from config.endpoints import endpoint
from tasks.asking.leftovers import Leftover
from tasks.billing.bill import TOKENS, Bill, in_yuan
from tasks.recording.tables import STATUSES
from tasks.recording.writer import TableFile, run_folder, write_table_file
from tasks.storage.output import Output, sound_parts

MESSAGE = "Ended without notice, killed or without power; its calls and its bill were completed later."


def write_last_rows(output: Output, job: str, left: Leftover) -> None:
    """Write `costs` and `runs` of a dead run, unless it had done so itself. Raises OutputError."""
    folder = run_folder("runs", job, left.run_id)
    if output.exists(f"{folder}/run.parquet"):
        return
    about = left.about()
    lost = _Lost(about)
    for part in sound_parts(output, run_folder("calls", job, left.run_id)):
        lost.add_calls(part.to_pylist())
    for part in sound_parts(output, run_folder("results", job, left.run_id), _COUNTED):
        lost.add_rows(part.to_pylist())
    bill, rate = lost.bill, lost.cny_per_usd
    costs = bill.rows(cny_per_usd=rate, simulated=lost.simulated)
    write_table_file(TableFile(output, "costs", job, left.run_id, "costs.parquet"), costs)
    began = datetime.fromisoformat(about["started_at"]) if "started_at" in about else lost.first_call
    ended = datetime.fromtimestamp(max(path.stat().st_mtime for path in left.paths), UTC)
    row = {
        **{name: about.get(name) for name in ("source", "settings", "versions")},
        "status": "interrupted",
        "message": MESSAGE,
        "output": output.uri,
        "simulated": lost.simulated,
        "started_at": began,
        "finished_at": ended,
        "seconds": round((ended - began).total_seconds(), 3) if began else None,
        **{name: lost.counts[name] for name in ("images", "rows", *STATUSES, "cached", "duplicates")},
        **{name: bill.total(name) for name in ("calls", *TOKENS)},
        "cost_usd": bill.cost_usd,
        "cost_cny": in_yuan(bill.cost_usd, rate),
    }
    write_table_file(TableFile(output, "runs", job, left.run_id, "run.parquet"), [row])


_COUNTED = ("page", "status", "cached", "duplicate_of", "model", "endpoint", "preset")


class _Lost:
    """Counts what is left of a run; `about` is what its journal says of it, nothing in the first release."""

    def __init__(self, about: dict[str, Any]) -> None:
        self._about = about
        self._bill: Bill | None = None
        self.counts: Counter[str] = Counter()
        self.cny_per_usd = Decimal(about.get("cny_per_usd", "0"))
        self.simulated = bool(about.get("simulated"))
        self.first_call: datetime | None = None

    @property
    def bill(self) -> Bill:
        """By the endpoint that the run asked; of a run that asked nobody, an empty one."""
        return self._bill or Bill(self._about.get("prices", "anthropic"))

    def add_calls(self, calls: list[dict[str, Any]]) -> None:
        for call in calls:
            self._know(call["endpoint"])
            self.bill.add_calls([{**call, **_named(call), "tier": call["tier"] or "standard"}])
            known = [time for time in (self.first_call, call["started_at"]) if time is not None]
            self.first_call = min(known, default=None)

    def add_rows(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._know(row["endpoint"])
            self.bill.add_rows(
                [{**row, **_named(row), "kept_usd": "0"}]
            )  # what kept answers had cost, the tables do not say
            self.counts.update([row["status"], "rows"])
            self.counts["images"] += row["page"] == 1
            self.counts["cached"] += bool(row["cached"])
            self.counts["duplicates"] += bool(row["duplicate_of"])

    def _know(self, identity: str | None) -> None:
        """The first release's journals do not say who was asked; its calls do."""
        if self._bill is not None:
            return
        try:
            where = endpoint(identity or "anthropic")
        except LookupError:  # taken out of the table since
            where = endpoint("anthropic")
        self._bill = Bill(self._about.get("prices", where.prices))
        if "cny_per_usd" not in self._about:
            self.cny_per_usd, self.simulated = where.cny_per_usd, where.name == "simulator"


def _named(row: dict[str, Any]) -> dict[str, str]:
    """What a line of the bill is known by."""
    return {name: row[name] or "unknown" for name in ("model", "endpoint", "preset")}
