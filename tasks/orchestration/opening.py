"""Opening a run: the plan, the place where answers are kept, and whoever watches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial

from prefect import get_run_logger
from prefect.runtime import flow_run

from config.job import Job, job_name, with_texts
from tasks.asking.halting import Halt
from tasks.errors import BusyError, UsageError
from tasks.orchestration.artifacts import progress_artifact
from tasks.orchestration.batches import Remaining
from tasks.orchestration.running import Run
from tasks.orchestration.store import PrefectStore
from tasks.orchestration.turn import turn
from tasks.planning.estimating import expected_cost
from tasks.planning.plan import Plan, make_plan
from tasks.storage.records import records_of
from tasks.text import printable
from tasks.types import Source

Watcher = Callable[[Run], AbstractContextManager[object]]

# Who shows a run of this process while it goes on, such as the terminal.
watchers: list[Watcher] = [progress_artifact]
# Who is told what happens before there is a run.
listeners: list[Callable[[str], object]] = []
# Plans that the command line has made already, while Prefect's server was starting; each serves one run.
plans: dict[tuple[str, str, str], Plan] = {}


@contextmanager
def open_run(source: str, output: str, job: Job) -> Iterator[Run]:
    """Check everything, then start the engine; on the way out keep what was received and write what is left."""
    plan = plans.pop(plan_key(source, output, job), None) or _planned(source, output, job)
    with turn(plan.output, plan.name, plan.run_id, timeout=plan.job.timeout, say=announce) as ours:
        run = Run(plan, PrefectStore(records_of(plan.output.uri)))
        ours.keep(partial(_stop, run))
        with run.open(), ExitStack() as stack:
            for watch in watchers:
                stack.enter_context(watch(run))
            yield run


def announce(text: str) -> None:
    """Say in Prefect's log and to whoever listens what happens before there is a run to watch."""
    get_run_logger().warning("%s", printable(text))
    for listener in listeners:
        listener(text)


def _stop(run: Run, why: str) -> None:
    """The turn is lost: nothing more is asked."""
    error = BusyError(f"{why} What was answered is kept: run the same command again.")
    with suppress(RuntimeError):  # it has just ended
        run.stop(Halt("stopped", str(error), error))


def list_images(run: Run) -> Sequence[Source]:
    """The images that are left to ask about; those answered before and unchanged since are recorded at once."""
    plan = run.plan
    remaining = Remaining(plan.listing.images)
    if not plan.job.refresh:
        for rows in run.store.finished(plan.batch_prefix):
            run.record(remaining.take(rows))
    left = remaining.left
    run.to_ask = len(left)
    run.estimate = expected_cost(plan, left)
    run.listed.set()
    log = get_run_logger()
    log.info(
        "Listed %d images in %s, %d done before", len(plan.listing.images), printable(plan.listing.source), run.images
    )
    about = f", about ${run.estimate:.4f}" if run.estimate is not None else ""
    log.info("To ask: %d images with %s%s", len(left), plan.job.model, about)
    return left


def _planned(source: str, output: str, job: Job) -> Plan:
    try:
        job = with_texts(job)
    except ValueError as error:
        raise UsageError(f"{error}.") from None
    run_id = flow_run.get_id()
    return make_plan(source, output, job, flow_run=run_id.replace("-", "")[:12] if run_id else None)


def run_name() -> str:
    """The flow run's name in the UI: the job's."""
    parameters = flow_run.get_parameters()
    job = parameters.get("job")
    named = job.name if isinstance(job, Job) else (job or {}).get("name")
    return named or job_name(str(parameters["source"]))


def plan_key(source: str, output: str, job: Job) -> tuple[str, str, str]:
    """What a plan made beforehand is found by."""
    return source, output, job.model_dump_json()
