"""Opening a run: the plan, the place where answers are kept, the images that are left, and whoever watches."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

from prefect import get_run_logger
from prefect.runtime import flow_run

from config.job import Job, with_texts
from tasks.asking.halting import Halt
from tasks.errors import BusyError, UsageError
from tasks.orchestration.approval import check_estimate
from tasks.orchestration.artifacts import progress_artifact
from tasks.orchestration.assembling import make_context
from tasks.orchestration.blocks import keys_from_blocks
from tasks.orchestration.chunks import Remaining
from tasks.orchestration.context import RunContext
from tasks.orchestration.events import day_watched, tell_start
from tasks.orchestration.fleet.manifest import todo_of
from tasks.orchestration.fleet.work_pool import ready
from tasks.orchestration.invoker import Stop, Todo, invoker
from tasks.orchestration.progress import logged_progress
from tasks.orchestration.store import PrefectStore
from tasks.orchestration.turn import turn
from tasks.planning.estimating import expected_cost
from tasks.planning.plan import Plan, make_plan
from tasks.storage.records import records_of
from tasks.text import printable


@contextmanager
def open_run(source: str, output: str, job: Job, stop: Stop) -> Iterator[RunContext]:
    """Check everything, then start the engine; on the way out keep what was received and write what is left."""
    brought = invoker().plan  # by the command line, which has the keys already
    with (
        keys_from_blocks(job) if brought is None else nullcontext(),
        open_plan(brought or _planned(source, output, job), stop) as run,
    ):
        yield run


@contextmanager
def open_plan(plan: Plan, stop: Stop) -> Iterator[RunContext]:
    """The same for what was planned elsewhere."""
    with turn(plan, announce) as ours:
        plan = ready(plan) if plan.part and not plan.is_shard else plan
        run = make_context(plan, PrefectStore(records_of(plan.output.uri)), invoker().prepared_cache)
        ours.keep(partial(_lost, run))
        with run.at_work():
            stop.attach(run)
            invoker().observer.opened()
            yield run


def announce(text: str) -> None:
    """Say in Prefect's log and to whoever called what happens before there is a run to watch."""
    get_run_logger().warning("%s", printable(text))
    invoker().observer.note(text)


def list_images(run: RunContext) -> Todo:
    """The images that are left to ask about; those answered before and unchanged since are recorded at once."""
    plan = run.plan
    if plan.part and plan.part.attempt and not plan.is_shard:  # its shards have begun
        return todo_of(run)
    remaining = Remaining(plan.listing.images, plan.run_id)
    if not plan.job.refresh and (plan.part is None or plan.part.attempt or not plan.is_shard):
        for rows in run.store.finished(plan.chunk_prefix):
            run.recorder.record(remaining.take(rows))
    left = remaining.left
    todo = Todo(left, run.recorder.images, expected_cost(plan, left))
    log = get_run_logger()
    log.info(
        "Listed %d images in %s, %d done before",
        len(plan.listing.images),
        printable(plan.listing.source),
        todo.done_before,
    )
    about = f", about ${todo.estimate:.4f}" if todo.estimate is not None else ""
    log.info("To ask: %d images with %s%s", len(left), plan.job.model, about)
    check_estimate(run, todo)
    return todo


@contextmanager
def watched(run: RunContext, todo: Todo) -> Iterator[None]:
    """Within, Prefect's UI and whoever called see how it goes."""
    count = len(todo.images)
    tell_start(run, count, todo.estimate)
    with (
        day_watched(run),
        progress_artifact(run),
        logged_progress(run, count),
        invoker().observer.watch(run, todo),
    ):
        yield


def _lost(run: RunContext, why: str) -> None:
    """The turn is lost: nothing more is asked."""
    error = BusyError(f"{why} What was answered is kept: run the same command again.")
    with suppress(RuntimeError):  # it has just ended
        run.stop(Halt.stopped(error))


def _planned(source: str, output: str, job: Job) -> Plan:
    try:
        job = with_texts(job)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    run_id = flow_run.get_id()
    return make_plan(source, output, job, flow_run=run_id.replace("-", "")[:12] if run_id else None)
