"""A run summed up: what its processes count of its rows, and what `--json` prints, from its row in `runs`."""

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tasks.billing.bill import TOKENS
from tasks.recording.rows import Reviews, Row, is_open
from tasks.recording.tables import STATUSES
from tasks.recording.writer import run_folder
from tasks.storage.output import Output

if TYPE_CHECKING:
    from tasks.planning.plan import Plan

FAILURES_SHOWN = 1000  # in the terminal and in Prefect's UI; the table has all
COUNTS = ("images", "rows", "cached", "duplicates")

PACKAGES = ("visionflow", "prefect", "anthropic", "pillow", "pyarrow")


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


def about(plan: "Plan", started_at: datetime) -> dict[str, Any]:
    """What a run says of itself as it begins, for its row in `runs` if it cannot write that itself."""
    return {
        "source": plan.listing.source,
        "settings": json.dumps(plan.job.model_dump(mode="json", by_alias=True), ensure_ascii=False),
        "simulated": plan.simulated,
        "started_at": started_at.isoformat(),
        "versions": json.dumps(_versions()),
        "prices": plan.endpoint.prices,
        "cny_per_usd": str(plan.cny_per_usd),
    }


def summary_of(
    output: Output, row: Mapping[str, Any], costs: Iterable[Mapping[str, Any]], reviews: Reviews | None = None
) -> dict[str, Any]:
    """The summary of a run, from its rows in `runs` and `costs`; money as JSON has it, in floats."""
    job, run, costs = row["job"], row["run_id"], list(costs)

    def folder(table: str) -> str:
        return output.join(run_folder(table, job, run))

    return {
        **{name: row[name] for name in ("run_id", "job", "status", "message", "simulated", "images", "rows", "ok")},
        "failed": row["rows"] - row["ok"],
        "statuses": {status: row[status] for status in STATUSES if row[status]},
        **{name: row[name] for name in ("cached", "duplicates", "calls")},
        "read_twice": reviews.read_twice if reviews else 0,
        "needs_review": reviews.needs_review if reviews else 0,
        **{name: row.get(name) or 0 for name in ("batches", "batch_requests")},  # the first release had none
        "calls_maybe_paid": sum(line["calls_maybe_paid"] for line in costs),
        **{name: row[name] for name in TOKENS},
        **{name: float(row[name]) for name in ("cost_usd", "cost_cny")},
        "saved_usd": float(sum(line["saved_kept_usd"] + line["saved_duplicates_usd"] for line in costs)),
        "seconds": row["seconds"],
        "results": folder("results"),
        "calls_table": folder("calls"),
        "costs": f"{folder('costs')}/costs.parquet",
        "report": f"{folder('reports')}/report.html",
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a bare clone, nothing installed under that name
            versions[package] = "not installed"
    return versions
