"""The steps as Prefect tasks: retries, limits, names. A finished chunk is kept by `store`, not by a cache key.

A task run holds a chunk of images, one image in small runs. Chunks are passed by reference: image bytes never enter
Prefect.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.states import Completed, Failed
from prefect.tasks import Task, exponential_backoff

from config.settings import home
from tasks.asking.halting import Halt
from tasks.asking.pages import Outcome, Page
from tasks.errors import ImageError, OutputError, Signal, StopRun
from tasks.orchestration.artifacts import summary_artifacts
from tasks.orchestration.chunks import Asked, Chunk, PreparedChunk
from tasks.orchestration.context import RunContext
from tasks.orchestration.events import tell_if_passed
from tasks.orchestration.fleet.manifest import close
from tasks.orchestration.invoker import Ended, invoker
from tasks.preparing.threads import PreparedFile, waited_for
from tasks.recording.rows import Row, answered_row, is_open, unavailable_row, unprepared_row
from tasks.reporting.html import write_report
from tasks.storage.output import explain_storage
from tasks.storage.reading import SourceUnavailable
from tasks.types import PreparedImage, Source

if TYPE_CHECKING:
    from concurrent.futures import Future

RETRIES = 2


class Unanswered(Signal):
    """Some images of the chunk have no answer yet, and asking again may help."""


@task(
    name="prepare",
    task_run_name="prepare {chunk.label}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(1),
    retry_jitter_factor=1,
)
def prepare(chunk: Chunk) -> PreparedChunk:
    """Read and prepare every image of the chunk; what cannot be sent becomes a row that says why.

    Storage that fails for a moment fails the attempt. Where nothing can be prepared at all, the run is stopped, and
    what was not prepared is not asked about.
    """
    run, pages, unprepared = chunk.run, list[tuple[Source, Page]](), list[Row]()
    seen = 0
    try:
        for source, reading in run.prepare_threads.prepare(chunk.sources, run.plan.rules):
            if run.halt is not None:
                break
            found = _pages_or_row(run, source, reading, last=_is_last_attempt())
            if found is None:
                break
            if isinstance(found, dict):
                unprepared.append(found)
            else:
                pages += found
            run.prepare_counts.add(source.size, [] if isinstance(found, dict) else [page.image for _, page in found])
            seen += 1
    except StopRun as error:
        run.stop(Halt.stopped(error))
    return PreparedChunk(chunk, pages, unprepared, chunk.sources[seen:])


def _pages_or_row(
    run: RunContext, listed: Source, reading: "Future[PreparedFile]", *, last: bool
) -> list[tuple[Source, Page]] | Row | None:
    """The pages of a file as it was when it was read, or its row; None as soon as the run has ended."""
    question, preset = run.plan.question, run.plan.preset.name
    try:
        read = waited_for(reading, lambda: run.halt is not None)
    except ImageError as error:
        return unprepared_row(listed, question, preset, error)
    except SourceUnavailable as error:
        if not last:
            raise
        return unavailable_row(listed, question, preset, str(error))
    if read is None:
        return None
    source, images = read
    again = run.plan.job.mode != "online"
    return [
        (source, Page(source.uri, image, again=partial(_again, run, listed, number) if again else None))
        for number, image in enumerate(images)
    ]


def _again(run: RunContext, source: Source, number: int) -> PreparedImage:
    """The same page, prepared once more: a batch lets go of its images. Whatever reading or preparing it raises."""
    ((_, reading),) = run.prepare_threads.prepare([source], run.plan.rules)
    read = waited_for(reading, lambda: False)
    assert read is not None
    return read[1][number]


def _may_help(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry for what is missing, not for what was decided."""
    return isinstance(state.result(raise_on_failure=False), Unanswered)


@task(
    name="ask",
    task_run_name="ask {prepared.chunk.label}",
    cache_policy=NO_CACHE,
    cache_result_in_memory=False,
    retries=RETRIES,
    retry_delay_seconds=[2, 6],  # a run that is told to end waits them out
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_help,
)
def ask(prepared: PreparedChunk) -> "Asked | State[Asked]":
    """Ask about every page of the chunk; its rows are kept, and no later run makes a task run of the finished ones.

    Every answer is kept the moment it arrives, so a retry, like any later run, asks only for what is missing. A chunk
    that is not finished ends as Failed, with its rows.
    """
    run = prepared.chunk.run
    with _global_limit(run):
        asked = _asked(prepared)
    missing = sum(outcome.may_be_asked_again for *_, outcome in asked)
    if missing and not _is_last_attempt() and run.halt is None:
        raise Unanswered(f"{missing} of {len(asked)} images have no answer yet")
    preset = run.plan.preset.name
    rows = prepared.unprepared + [answered_row(source, page, outcome, preset) for source, page, outcome in asked]
    rows += [run.unasked_row(source) for source in prepared.unseen]
    open_ends = [row for row in rows if is_open(row)]
    _keep_finished(prepared.chunk, rows, open_ends)
    if open_ends and run.plan.job.no_wait and run.halt is None and all(map(_waits, open_ends)):
        return Completed(
            name="Waiting", message=f"{len(open_ends)} of {len(rows)} images are in a batch", data=Asked(rows)
        )
    if open_ends:
        first = open_ends[0]
        missing_what = "no second reading" if first["status"] == "ok" else "no answer"
        reason = first["error"] or first["second"]["error"]
        why = f"{len(open_ends)} of {len(rows)} rows have {missing_what}: {reason}"
        return Failed(message=why, data=Asked(rows))
    return Asked(rows)


def _waits(row: Row) -> bool:
    """Whether a row, or its second reading, is in a batch that nobody waits for."""
    return "unasked" in (row["status"], (row.get("second") or row)["status"])


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report(run: RunContext) -> dict[str, Any]:
    """Write the bill, the report for people and the artifacts of Prefect's UI; the run's summary."""
    summary = run.finish()
    if run.plan.part:
        close(run.plan)
    try:
        write_report(run.plan.output, run.plan.name, run.plan.run_id)
    finally:
        invoker().observer.ended(Ended(summary, run.recorder.failures, run.halt))
    summary_artifacts(run, summary)
    tell_if_passed(run.plan)
    return summary


def ask_for(run: RunContext) -> Task[[PreparedChunk], Any]:
    """The task `ask` with this run's number of attempts."""
    return ask.with_options(retries=min(RETRIES, run.plan.job.attempts - 1))


def _asked(prepared: PreparedChunk) -> list[tuple[Source, Page, Outcome]]:
    """Every page with its outcome; the job's attempts are shared out over the task's own retries."""
    run = prepared.chunk.run
    pages = [page for _, page in prepared.pages if page.outcome is None or page.outcome.may_be_asked_again]
    is_first = all(page.outcome is None for page in pages)
    attempts = max(1, run.plan.job.attempts - RETRIES) if is_first else 1
    asking = run.engine.submit(pages, attempts=attempts)
    prepared.handed = True
    for page, outcome in zip(pages, asking.result(), strict=True):
        page.outcome = outcome
    return [(source, page, page.outcome) for source, page in prepared.pages if page.outcome is not None]


def _keep_finished(chunk: Chunk, rows: list[Row], open_ends: list[Row]) -> None:
    """Keep what is finished of the chunk, so that a later run looks only into the other files, if there are any.

    It must not find older rows of these files either, after they were asked about anew.
    """
    left = {row["image"] for row in open_ends}
    run = chunk.run
    finished = [{**row, "kept_by": run.plan.run_id} for row in rows if row["image"] not in left]
    if not finished:
        return
    try:
        run.store.keep_finished(chunk.key, finished, whole=not open_ends)
    except Exception as error:  # noqa: BLE001  # the answers themselves are kept: a later run finds them one by one
        if isinstance(error, OSError) and not run.store.durable:  # a disk is full or broken: nothing more is paid for
            trouble = OutputError(f"{explain_storage(error, str(home()), 'write')} What was answered is kept.")
            run.stop(Halt.stopped(trouble))


def _global_limit(run: RunContext) -> AbstractContextManager[Any]:
    """A slot of the job's Prefect limit, shared with other runs: once a chunk, for each use costs some 70 ms."""
    name = run.plan.job.global_limit
    return concurrency(name, strict=True) if name else nullcontext()


def _is_last_attempt() -> bool:
    context = TaskRunContext.get()
    assert context is not None
    return context.task_run.run_count > context.task.retries
