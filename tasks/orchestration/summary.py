"""A run summed up: its own row in the table `runs`, and what `--json` prints, which is made from that row."""

import json
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tasks.billing.bill import TOKENS, in_yuan
from tasks.orchestration.figures import COUNTS
from tasks.recording.reviews import Reviews
from tasks.recording.tables import STATUSES
from tasks.recording.writer import run_folder
from tasks.storage.output import Output

if TYPE_CHECKING:
    from tasks.asking.halting import Halt
    from tasks.orchestration.recorder import Recorder
    from tasks.planning.plan import Plan

PACKAGES = ("visionflow", "prefect", "anthropic", "pillow", "pyarrow")


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


def run_row(plan: "Plan", counted: "Recorder", status: str, halt: "Halt | None") -> dict[str, Any]:
    """The run's row in `runs`: how it ended, what it counted and cost, the job as it was run, and the versions."""
    bill, described, figures = counted.bill, about(plan, counted.started_at), counted.figures
    return {
        "run_id": plan.run_id,
        "job": plan.name,
        "status": status,
        "message": halt.message if halt and status == halt.kind else None,
        **{name: described[name] for name in ("source", "settings", "simulated", "versions")},
        "output": plan.output.uri,
        "started_at": counted.started_at,
        "finished_at": datetime.now(UTC),
        "seconds": round(counted.seconds, 3),
        **{name: figures.counts[name] for name in COUNTS},
        **{status: figures.statuses[status] for status in STATUSES},
        **{name: bill.total(name) for name in ("calls", *TOKENS)},
        "cost_usd": bill.cost_usd,
        "cost_cny": in_yuan(bill.cost_usd, plan.cny_per_usd),
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
