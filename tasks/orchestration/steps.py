"""The steps as Prefect tasks: retries, limits, names. A finished batch is kept by `store`, not by a cache key.

A task run holds a batch of images, one image in small runs. Batches are plain objects passed by reference: image bytes
never enter Prefect.
"""

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.tasks import Task, exponential_backoff

from config.settings import home
from tasks.asking.halting import Halt
from tasks.asking.pages import Outcome, Page
from tasks.errors import ImageError, OutputError, StopRun
from tasks.orchestration.artifacts import summary_artifacts
from tasks.orchestration.batches import Batch
from tasks.orchestration.running import Run
from tasks.preparing.preparers import Prepared
from tasks.recording.rows import Row, answered_row, is_open, unavailable_row, unprepared_row
from tasks.reporting.writing import write_report
from tasks.storage.output import explain_storage
from tasks.storage.reading import SourceUnavailable
from tasks.types import PreparedImage, Source

RETRIES = 2


class Unanswered(Exception):
    """Some images of the batch have no answer yet, and asking again may help."""


class Unfinished(Exception):
    """Some images of the batch will have no answer in this run; their rows say why."""


@task(
    name="prepare",
    task_run_name="prepare {batch.label}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(1),
    retry_jitter_factor=1,
)
def prepare(batch: Batch) -> Batch:
    """Read and prepare every image of the batch; what cannot be sent becomes a row that says why.

    Where nothing can be prepared at all, the run is stopped, and what was not prepared is not asked about.
    """
    run = batch.run
    try:
        for source, pages in run.preparers.prepare(_unseen(batch), run.rules):
            if run.engine.halt is not None:
                break
            _take(batch, source, pages, last=_is_last_attempt())
    except StopRun as error:
        run.stop(Halt("stopped", str(error), error))
    return batch


def _take(batch: Batch, source: Source, prepared: "Future[Prepared]", *, last: bool) -> None:
    run = batch.run
    question, preset = run.plan.question, run.plan.preset.name
    pages: list[PreparedImage] = []
    try:
        read, pages = prepared.result()
        if read is not source:  # replaced since it was listed: the row is of what was read
            batch.sources[batch.sources.index(source)] = source = read
    except ImageError as error:
        batch.unprepared.append(unprepared_row(source, question, preset, error))
    except SourceUnavailable as error:
        if not last:
            raise
        batch.unprepared.append(unavailable_row(source, question, preset, str(error)))
    batch.pages += [(source, Page(source.uri, page)) for page in pages]
    run.preparation.add(source.size, pages)


def _may_help(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry for what is missing, not for what was decided."""
    return isinstance(state.result(raise_on_failure=False), Unanswered)


@task(
    name="ask",
    task_run_name="ask {batch.label}",
    cache_policy=NO_CACHE,
    cache_result_in_memory=False,
    retries=RETRIES,
    retry_delay_seconds=[2, 6],  # a run that is told to end waits them out
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_help,
)
def ask(batch: Batch) -> list[Row]:
    """Ask about every page of the batch; the finished rows are kept, and no later run makes a task run of them.

    Every answer is kept the moment it arrives, so a retry, like any later run, asks only for what is missing. A batch
    that is not finished raises; its rows are recorded all the same.
    """
    run = batch.run
    with _global_limit(run):
        _ask_missing(batch)
    outcomes = [(source, page, batch.outcomes[id(page)]) for source, page in batch.pages]
    missing = sum(outcome.may_be_asked_again for *_, outcome in outcomes)
    if missing and not _is_last_attempt() and run.engine.halt is None:
        raise Unanswered(f"{missing} of {len(outcomes)} images have no answer yet")
    preset = run.plan.preset.name
    rows = batch.unprepared + [answered_row(source, page, outcome, preset) for source, page, outcome in outcomes]
    rows += [run.unasked_row(source) for source in _unseen(batch)]
    batch.rows = rows
    open_ends = [row for row in rows if is_open(row)]
    _keep_finished(batch, rows, open_ends)
    if open_ends:
        raise Unfinished(f"{len(open_ends)} of {len(rows)} rows have no answer: {open_ends[0]['error']}")
    return rows


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report(run: Run) -> dict[str, Any]:
    """Write the bill, the report for people and the artifacts of Prefect's UI; the run's summary."""
    summary = run.finish()
    write_report(run.plan.output, run.plan.name, run.plan.run_id)
    run.written.set()
    summary_artifacts(run, summary)
    return summary


def ask_for(run: Run) -> Task[[Batch], list[Row]]:
    """The task `ask` with this run's number of attempts."""
    return ask.with_options(retries=min(RETRIES, run.plan.job.attempts - 1))


def _ask_missing(batch: Batch) -> None:
    """Ask about pages without an outcome; the job's attempts are shared out over the task's own retries."""
    job = batch.run.plan.job
    first_pass = max(1, job.attempts - RETRIES)
    pages = [page for _, page in batch.pages if _is_unanswered(batch.outcomes.get(id(page)))]
    outcomes = batch.run.engine.ask(pages, attempts=first_pass if not batch.outcomes else 1)
    batch.outcomes.update({id(page): outcome for page, outcome in zip(pages, outcomes, strict=True)})


def _keep_finished(batch: Batch, rows: list[Row], open_ends: list[Row]) -> None:
    """Keep what is finished of the batch, so that a later run looks only into the other files, if there are any.

    It must not find older rows of these files either, after they were asked about anew.
    """
    left = {row["image"] for row in open_ends}
    finished = [row for row in rows if row["image"] not in left]
    if not finished:
        return
    run = batch.run
    try:
        run.store.keep_finished(batch.key, finished, whole=not open_ends)
    except Exception as error:  # noqa: BLE001  # the answers themselves are kept: a later run finds them one by one
        if isinstance(error, OSError) and not run.store.durable:  # a disk is full or broken: nothing more is paid for
            trouble = OutputError(f"{explain_storage(error, str(home()), 'write')} What was answered is kept.")
            run.stop(Halt("stopped", str(trouble), trouble))


def _is_unanswered(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.may_be_asked_again


def _unseen(batch: Batch) -> list[Source]:
    """Files that were not opened because the run ended before."""
    seen = {source.uri for source, _ in batch.pages} | {row["image"] for row in batch.unprepared}
    return [source for source in batch.sources if source.uri not in seen]


def _global_limit(run: Run) -> AbstractContextManager[Any]:
    """A slot of the job's Prefect limit, shared with other runs: once a batch, for each use costs some 70 ms."""
    name = run.plan.job.global_limit
    return concurrency(name, strict=True) if name else nullcontext()


def _is_last_attempt() -> bool:
    context = TaskRunContext.get()
    assert context is not None
    return context.task_run.run_count > context.task.retries
