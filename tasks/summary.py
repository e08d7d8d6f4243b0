"""A run summed up: what `--json` prints, and the run's own row in the table `runs`."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tasks.billing import in_yuan
from tasks.tables import RUNS, STATUSES

if TYPE_CHECKING:
    from tasks.running import Run

PACKAGES = ("visionflow", "prefect", "anthropic", "pillow", "pyarrow")
TOTALS = ("calls", "calls_maybe_paid", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
SAVED = ("saved_kept_usd", "saved_duplicates_usd")


def summed_up(run: "Run") -> dict[str, Any]:
    """How the run ended, what it counted and what it cost; money as JSON has it, in floats."""
    plan, bill, halt = run.plan, run.bill, run.engine.halt
    return {
        "run_id": plan.run_id,
        "job": plan.name,
        "status": run.status,
        "message": halt.message if halt and run.status == halt.kind else None,
        "simulated": plan.simulated,
        "images": run.images,
        "rows": run.rows,
        "ok": run.statuses["ok"],
        "failed": run.rows - run.statuses["ok"],
        "statuses": {status: run.statuses[status] for status in STATUSES if run.statuses[status]},
        "cached": run.cached,
        "duplicates": run.duplicates,
        **{name: bill.total(name) for name in TOTALS},
        "cost_usd": float(bill.cost_usd),
        "cost_cny": float(in_yuan(bill.cost_usd, plan.cny_per_usd)),
        "saved_usd": float(sum(bill.saved(kind) for kind in SAVED)),
        "seconds": round(run.seconds, 3),
    }


def run_row(run: "Run", summary: dict[str, Any]) -> dict[str, Any]:
    """The run's row: its summary with exact money, the job as it was run, and the versions that ran it."""
    plan = run.plan
    settings = plan.job.model_dump(mode="json", by_alias=True)
    columns = {name: summary[name] for name in RUNS.names if name in summary and name not in ("job", "run_id")}
    return {
        **columns,
        **{status: run.statuses[status] for status in STATUSES},
        "cost_usd": run.bill.cost_usd,
        "cost_cny": in_yuan(run.bill.cost_usd, plan.cny_per_usd),
        "source": plan.listing.source,
        "output": plan.output.uri,
        "settings": json.dumps(settings, ensure_ascii=False),
        "started_at": run.started_at,
        "finished_at": datetime.now(UTC),
        "versions": json.dumps(_versions()),
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a bare clone, nothing installed under that name
            versions[package] = "not installed"
    return versions
