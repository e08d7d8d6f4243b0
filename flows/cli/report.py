"""A run that has ended: `visionflow report`, its page and summary, and `visionflow export`, its rows for labelling."""

import json
import re
import sys
from pathlib import PurePosixPath

from pydantic import ValidationError

from config.job import Job
from flows.cli.terminal import Terminal, shortened
from flows.cli.without_pandas import leave_pandas_out
from tasks.errors import OutputError, UsageError, VisionflowError
from tasks.labelling.exporting import ExportChoice, export_run
from tasks.orchestration.summary import summary_of
from tasks.planning.resolving import schema_of
from tasks.recording.reading_back import counted_reviews
from tasks.recording.shapes import as_written
from tasks.recording.writer import run_folder
from tasks.reporting.html import write_report
from tasks.schemas.tree import Node
from tasks.storage.output import Output, open_output
from tasks.text import counted

RUN_FILE = re.compile(r"runs/job=(?P<job>[^/]+)/run=(?P<run>[^/]+)/run\.parquet")


def print_report(uri: str, run_id: str | None, *, as_json: bool, pictures: bool) -> None:
    """Write the report of the run, or of the newest one, and say how it went in the words of the run itself."""
    leave_pandas_out()
    output = open_output(uri)
    job, run = find_run(output, run_id)
    with as_written(output, job, run):
        write_report(output, job, run, pictures=pictures)
        row = output.read_table(f"{run_folder('runs', job, run)}/run.parquet").to_pylist()[0] | {"job": job}
        costs = output.read_table(f"{run_folder('costs', job, run)}/costs.parquet").to_pylist()
        summary = summary_of(output, row, costs, counted_reviews(output, run_folder("results", job, run)))
        if as_json:
            sys.stdout.write(json.dumps(summary) + "\n")
            return
        terminal = Terminal()
        terminal.say("Run", f"{run} of {job}: {row['images']:,} images from {row['source']}")
        terminal.summary(summary)


def find_run(output: Output, run_id: str | None) -> tuple[str, str]:
    """Job and id of a finished run, the newest unless one is named. Raises UsageError."""
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


def print_export(uri: str, run_id: str | None, *, to: str, review: bool) -> None:
    """Write the rows of the run, or of the newest one, and say where they are."""
    output = open_output(uri)
    job, run = find_run(output, run_id)
    with as_written(output, job, run):
        row = output.read_table(f"{run_folder('runs', job, run)}/run.parquet", ["settings"]).to_pylist()[0]
        made = export_run(output, job, run, ExportChoice(to, _schema(row["settings"]), review))
    terminal = Terminal()
    terminal.say("Run", f"{run} of {job}")
    which = ", those that a person should look at" if review else ""
    terminal.say("Exported", f"{made.rows:,} of {counted(made.of, 'row')}{which}")
    terminal.say("File", shortened(made.file))
    if made.beside:
        terminal.say("", f"{shortened(made.beside)}: the labelling interface that goes with it")


def _schema(settings: str | None) -> Node | None:
    """The run's schema, for its closed sets of values; None where it is not there any more."""
    try:
        schema = schema_of(Job.model_validate(json.loads(settings or "{}")))
    except (VisionflowError, ValidationError, LookupError, ValueError):
        return None
    return schema.root if schema else None
