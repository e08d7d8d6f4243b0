"""What a process of a run has counted of its rows, and what those of a fleet come to together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tasks.recording.rows import Row, is_open

FAILURES_SHOWN = 1000  # in the terminal and in Prefect's UI; the table has all
COUNTS = ("images", "rows", "cached", "duplicates")


@dataclass
class Figures:
    """Counted as rows come; its size does not grow with their number."""

    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count one row."""
        self.statuses[row["status"]] += 1
        self.counts["rows"] += 1
        self.counts["images"] += row["page"] == 1
        self.counts["read_once"] += row["status"] == "ok" and is_open(row)  # its second reading is still to come
        self.counts["cached"] += bool(row["cached"])
        self.counts["duplicates"] += bool(row.get("duplicate_of"))
        if row["status"] != "ok" and len(self.failures) < FAILURES_SHOWN:
            self.failures.append({name: row.get(name) for name in ("name", "page", "status", "error_code", "error")})

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "Figures":
        """As `json` has them. Raises KeyError or TypeError."""
        return cls(Counter(facts["statuses"]), Counter(facts["counts"]), list(facts["failures"]))

    @property
    def json(self) -> dict[str, Any]:
        """For another process."""
        return {"statuses": dict(self.statuses), "counts": dict(self.counts), "failures": list(self.failures)}


def together(parts: Iterable[Figures]) -> Figures:
    """Those of all parts."""
    whole = Figures()
    for part in parts:
        whole.statuses.update(part.statuses)
        whole.counts.update(part.counts)
        whole.failures += part.failures[: FAILURES_SHOWN - len(whole.failures)]
    return whole
