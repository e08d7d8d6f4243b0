"""`visionflow report`: the HTML report and the summary of a run that has ended."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from flows.terminal import Terminal
from tasks.errors import OutputError, UsageError
from tasks.recording import run_folder
from tasks.reporting.writing import write_report
from tasks.storage import Output, open_output
from tasks.tables import STATUSES, TOKEN_COLUMNS

RUN_FILE = re.compile(r"runs/job=(?P<job>[^/]+)/run=(?P<run>[^/]+)/run\.parquet")


def print_report(uri: str, run_id: str | None, *, as_json: bool) -> None:
    """Write the report of the run, or of the newest one, and say how it went in the words of the run itself."""
    output = open_output(uri)
    job, run = _find(output, run_id)
    write_report(output, job, run)
    row = output.read_table(f"{run_folder('runs', job, run)}/run.parquet").to_pylist()[0]
    costs = output.read_table(f"{run_folder('costs', job, run)}/costs.parquet").to_pylist()
    summary = summary_of(output, row, costs)
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    terminal = Terminal()
    terminal.say("Run", f"{run} of {job}: {row['images']:,} images from {row['source']}")
    terminal.summary(summary)


def summary_of(output: Output, row: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary that the run itself printed, from its rows in `runs` and `costs`."""
    job, run = row["job"], row["run_id"]

    def folder(table: str) -> str:
        return output.join(run_folder(table, job, run))

    return {
        **{name: row[name] for name in ("run_id", "job", "status", "message", "simulated", "images", "rows", "ok")},
        "failed": row["rows"] - row["ok"],
        "statuses": {status: row[status] for status in STATUSES if row[status]},
        **{name: row[name] for name in ("cached", "duplicates", "calls")},
        "calls_maybe_paid": sum(line["calls_maybe_paid"] for line in costs),
        **{name: row[name] for name, _ in TOKEN_COLUMNS},
        **{name: float(row[name]) for name in ("cost_usd", "cost_cny")},
        "saved_usd": float(sum(line["saved_kept_usd"] + line["saved_duplicates_usd"] for line in costs)),
        "seconds": row["seconds"],
        "results": folder("results"),
        "calls_table": folder("calls"),
        "costs": f"{folder('costs')}/costs.parquet",
        "report": f"{folder('reports')}/report.html",
    }


def _find(output: Output, run_id: str | None) -> tuple[str, str]:
    try:
        found = [match for name in output.list("runs") if (match := RUN_FILE.fullmatch(str(PurePosixPath(name))))]
    except OutputError:
        found = []
    chosen = [match for match in found if run_id in (None, match["run"])]
    if not chosen:
        known = ", ".join(sorted(match["run"] for match in found)[-5:])
        wanted = f"run {run_id}" if run_id else "run"
        raise UsageError(
            f"No finished {wanted} in {output.uri}. " + (f"There are: {known}." if known else "Check OUTPUT.")
        )
    newest = max(chosen, key=lambda match: match["run"])
    return newest["job"], newest["run"]
