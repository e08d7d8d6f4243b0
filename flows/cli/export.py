"""`visionflow export`: a run's rows for labelling tools and programs."""

import json

from pydantic import ValidationError

from config.job import Job
from flows.cli.report import find_run
from flows.cli.terminal import Terminal, shortened
from tasks.errors import VisionflowError
from tasks.labelling.exporting import Wanted, export_run
from tasks.planning.plan import schema_of
from tasks.recording.writer import run_folder
from tasks.schemas.tree import Node
from tasks.storage.output import open_output
from tasks.text import counted


def print_export(uri: str, run_id: str | None, *, to: str, review: bool) -> None:
    """Write the rows of the run, or of the newest one, and say where they are."""
    output = open_output(uri)
    job, run = find_run(output, run_id)
    settings = output.read_table(f"{run_folder('runs', job, run)}/run.parquet", ["settings"]).to_pylist()[0]["settings"]
    made = export_run(output, job, run, Wanted(to, _schema(settings), review))
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
