"""The main job: list images, prepare them, ask Claude about each, record the answers, report the bill."""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from config.job import Job
from tasks.orchestration.approval import allowed, more_money
from tasks.orchestration.artifacts import run_name
from tasks.orchestration.fleet.parent import by_shards
from tasks.orchestration.flow_state import last_state, says_how_it_ends
from tasks.orchestration.invoker import accepted
from tasks.orchestration.opening import list_images, open_run, watched
from tasks.orchestration.steps import ask_for, prepare, report
from tasks.orchestration.stopping import stoppable
from tasks.orchestration.window import in_window

# Threads that only wait: the calls run on one event loop and decoding in child processes, each with limits of its own.
RUNNER: Any = ThreadPoolTaskRunner(max_workers=2048)
DEFAULT_JOB: Any = {}  # in the form: whatever its fields begin with


@flow(name="analyze-images", flow_run_name=run_name, task_runner=RUNNER, validate_parameters=False)
@says_how_it_ends
def analyze_images(source: str, output: str, job: Job = DEFAULT_JOB) -> dict[str, Any]:
    """Ask about every image under `source` and write answers, calls and costs under `output`.

    Returns the run's summary. A run that had to stop raises why (StopRun), one with more failed rows than the job
    allows RowsFailed, an interrupted one CancelledRun; all of them have written down what they did.

    Args:
        source: Local folder, file, glob, manifest (.csv, .parquet, .txt) or s3://bucket/prefix
        output: Local folder or s3://bucket/prefix for the Parquet tables
        job: What to ask, of which model, how fast, and for how much at most
    """
    job = accepted(source, output, job)
    with stoppable() as stop:
        capped: Job | None = allowed(job)
        while capped is not None:
            with open_run(source, output, capped, stop) as run:
                todo = list_images(run)
                with watched(run, todo):
                    asked = by_shards(run, todo) if capped.pool else in_window(run, todo, prepare.map, ask_for(run).map)
                    for rows in asked:
                        run.recorder.record(rows)
            summary = report(run)
            capped = more_money(run, todo, summary, stop)  # where the cap has paused it and a person may raise it
        ended: dict[str, Any] = last_state(
            run, summary, cancelled=stop.requested
        )  # a state, whose result Prefect gives the caller
    return ended
