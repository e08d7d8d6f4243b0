"""What a person sees of a run in Prefect's UI: its name, its progress while it goes on, its bill and failures.

The UI renders every text of an artifact as Markdown, a table's cells too: what came from outside is escaped, else an
answer could make the reader's browser fetch an address.
A server that is gone or refuses them must not cost the run anything.
"""

import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import coolname
from coolname.loader import load_config
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import deployment, flow_run

from config.form import flat
from config.job import Job, job_name
from tasks.billing.pricing import cny, usd
from tasks.orchestration.context import RunContext
from tasks.orchestration.progress import beside
from tasks.reporting.served_reports import report_place
from tasks.text import as_markdown

BATCHES_S = 60.0  # between two tables of batches
EVERY_S = 5.0  # an update costs some 30 ms here and more on the server
MOST_FAILURES = 1000  # rows a table in the UI bears; the Parquet has all
# The dollars first: a table in the UI is cut off on the right.
COSTS = (
    ("cost", lambda row: usd(row["cost_usd"])),
    ("yuan", lambda row: cny(row["cost_cny"])),
    ("model", lambda row: row["model"]),
    ("calls", lambda row: f"{row['calls']:,}"),
    ("images", lambda row: f"{row['images']:,}"),
    ("input tokens", lambda row: f"{row['input_tokens']:,}"),
    ("output tokens", lambda row: f"{row['output_tokens']:,}"),
    ("saved by kept answers", lambda row: usd(row["saved_kept_usd"])),
    ("tier", lambda row: row["tier"]),
    ("endpoint", lambda row: row["endpoint"]),
    ("preset", lambda row: row["preset"]),
    ("prices checked", lambda row: row["price_checked"]),
)


@contextmanager
def progress_artifact(run: RunContext) -> Iterator[None]:
    """Keep a progress bar in the UI up to date."""
    name = run.plan.name

    def update(finished: threading.Event) -> None:
        with suppress(Exception):
            artifact = create_progress_artifact(
                0.0, key=artifact_key(name, "progress"), description=f"Images of {as_markdown(name)} finished"
            )
            assert isinstance(artifact, UUID)
            batches = _Batches(run)
            while not finished.wait(EVERY_S):
                update_progress_artifact(artifact, progress=_percent(run))
                batches.show()
            update_progress_artifact(artifact, progress=_percent(run))
            batches.show(last=True)

    with beside(update, "artifact", patience=EVERY_S):  # Prefect's client may wait long for a server that is gone
        yield


class _Batches:
    """The table of the run's Message Batches in the UI: Prefect makes a new version of it each time."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._shown: list[dict[str, str]] = []
        self._at = 0.0

    def show(self, *, last: bool = False) -> None:
        """As they are now, if that is news; not more than once a minute but at the end."""
        rows = self._run.engine.batches.table()[-MOST_FAILURES:] if self._run.engine.batches else []
        if rows != self._shown and (last or monotonic() - self._at > BATCHES_S):
            self._shown, self._at = rows, monotonic()
            key = artifact_key(self._run.plan.name, "batches")
            create_table_artifact(_cells(rows), key=key, description="Message Batches of this run")


def summary_artifacts(run: RunContext, summary: dict[str, Any]) -> None:
    """The bill as a page with the report's address, the costs and the first failures as tables."""
    name, failures = run.plan.name, run.recorder.failures[:MOST_FAILURES]
    costs = run.recorder.bill.rows(cny_per_usd=run.plan.cny_per_usd, simulated=run.plan.simulated)
    with suppress(Exception):
        create_markdown_artifact(
            _markdown(summary), key=artifact_key(name, "summary"), description=f"Run {summary['run_id']}"
        )
        create_table_artifact(
            _cells({title: value(row) for title, value in COSTS} for row in costs),
            key=artifact_key(name, "costs"),
            description=f"{usd(summary['cost_usd'])} in all",
        )
        if failures:
            first = "" if summary["failed"] == len(failures) else f"The first {len(failures):,} of "
            create_table_artifact(
                _cells(_failure(row) for row in failures),
                key=artifact_key(name, "failures"),
                description=f"{first}{summary['failed']:,} failed rows",
            )


def _percent(run: RunContext) -> float:
    return min(100.0, 100 * run.recorder.images / max(1, len(run.plan.listing.images)))


def _failure(row: Mapping[str, Any]) -> dict[str, Any]:
    page = f", page {row['page']}" if row["page"] != 1 else ""
    return {"image": f"{row['name']}{page}", "status": row["status"], "reason": row["error"]}


def _markdown(summary: dict[str, Any]) -> str:
    simulated = "**Simulated: no dollars were spent.**\n\n" if summary["simulated"] else ""
    lines = [
        f"| Cost | {usd(summary['cost_usd'])} ({cny(summary['cost_cny'])}) |",
        "| --- | ---: |",
        f"| images | {summary['images']:,} |",
        *([f"| rows, one a page | {summary['rows']:,} |"] if summary["rows"] != summary["images"] else []),
        *(f"| {status} | {count:,} |" for status, count in summary["statuses"].items()),
        f"| kept from earlier runs | {summary['cached']:,} |",
        f"| duplicates | {summary['duplicates']:,} |",
        f"| calls | {summary['calls']:,} |",
        f"| saved by kept answers and duplicates | {usd(summary['saved_usd'])} |",
        f"| seconds | {summary['seconds']:.1f} |",
    ]
    report = report_place(summary["report"])
    shown = f"[Open the report]({report})" if report.startswith("http://127.0.0.1:") else as_markdown(report)
    places = f"Results: {as_markdown(summary['results'])}\n"
    return f"{simulated}**Report:** {shown}\n\n{chr(10).join(lines)}\n\n{places}"


def _cells(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{name: "" if value is None else as_markdown(str(value)) for name, value in row.items()} for row in rows]


def run_name() -> str:
    """The flow run's name in the UI: what a person typed for it, else the job's."""
    if deployment.id and (typed := flow_run.get_name()) and not is_made_up(typed):
        return typed
    parameters = flow_run.get_parameters()
    job = parameters.get("job")
    values = {"name": job.name} if isinstance(job, Job) else flat(job)
    named = values.get("name") if isinstance(values, dict) else None
    return str(named or job_name(str(parameters["source"])))


def is_made_up(name: str) -> bool:
    """Whether Prefect's server thought of the name. One that its form suggested was there to be read, and stays."""
    words = name.split("-")
    return len(words) == 2 and _vocabulary().issuperset(words)


def artifact_key(job: str, what: str) -> str:
    """`receipts-costs`: Prefect takes a-z, 0-9 and dashes; names that would be alike get a digest."""
    plain = unicodedata.normalize("NFKD", job).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if slug != job:
        slug = f"{slug}-{sha256(job.encode()).hexdigest()[:6]}".strip("-")
    return f"{slug}-{what}"


@cache
def _vocabulary() -> frozenset[str]:
    """Every word that coolname, whose names Prefect's server gives, may take."""
    words: dict[str, Any] = dict(load_config(Path(coolname.__file__).parent / "data"))
    return frozenset(str(word) for one in words.values() for word in one.get("words") or ())
