"""Who invokes the flow, and what they bring: a plan made beforehand, an observer, a way to stop it."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING, Any

from config.job import Job
from tasks.asking.halting import Halt
from tasks.errors import StopRun, UsageError
from tasks.planning.given import job_of, refusal
from tasks.preparing.threads import PreparedCache
from tasks.types import Source

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext
    from tasks.planning.plan import Plan
    from tasks.planning.variants import Comparison, Variant

# A runner or a worker sets them for what it starts: flows within a deployment's flow have no deployment of their own.
STARTED = ("PREFECT__FLOW_RUN_ID", "PREFECT__DEPLOYMENT_NAME")
WRITING_S = 8.0  # of the grace, for the tables, the report and the flow's last state
SAME_COMMAND = "The same command goes on where this run stopped."
AGAIN = " Ctrl-C again ends at once."


@dataclass(frozen=True, eq=False)
class Todo:
    """What is left to ask about, once what earlier runs finished is recorded."""

    images: Sequence[Source]
    done_before: int
    estimate: Decimal | None
    """Dollars; None where no size is known."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    summary: dict[str, Any]
    failures: Sequence[dict[str, Any]]
    halt: Halt | None


class Observer:
    """Told of a run as it goes on, in the flow's thread; a subclass says what it does with it."""

    def note(self, text: str) -> None:
        """What happens before there is a run."""

    def variant(self, comparison: "Comparison", variant: "Variant") -> None:
        """The next run is of this variant of a comparison."""

    def opened(self) -> None:
        """The run is open: nothing was asked yet."""

    def watch(self, run: "RunContext", todo: Todo) -> AbstractContextManager[object]:  # noqa: ARG002  # for subclasses
        """Around all preparing and asking."""
        return nullcontext()

    def ended(self, ended: Ended) -> None:
        """All was asked, and the tables are written. What follows are courtesies of Prefect's."""


class Stop:
    """A request to end, by whoever may make it. What is asked for before there is a run waits for it."""

    def __init__(self) -> None:
        self.run: RunContext | None = None
        self._requested: Halt | None = None
        self._context = copy_context()

    @property
    def requested(self) -> bool:
        """Whether somebody has asked to end."""
        return self._requested is not None

    def attach(self, run: "RunContext") -> None:
        """The run that is under way from now on."""
        self.run = run
        self._context = copy_context()  # the flow's, for its log: whoever asks may be elsewhere
        if self._requested is not None:
            run.stop(self._requested)

    def __call__(
        self, reason: str, remedy: str = SAME_COMMAND, *, killed_after: float | None = None, hurry: str = AGAIN
    ) -> None:
        """Make no more calls; those in flight have the job's time limit, or what the grace leaves if that is less.

        `hurry` tells a person how to wait for nothing.
        """
        patience = self.run.plan.job.timeout if self.run else None
        if patience is not None and killed_after is not None:
            patience = min(patience, max(killed_after - WRITING_S, 0.0))
        again = self.requested  # by a terminal's Ctrl-C and by the runner's SIGTERM, for one
        self._requested = Halt("interrupted", f"{reason} {remedy}", patience=patience)
        if self.run is not None:
            with suppress(RuntimeError):  # it has just ended, and waits for a person or writes its report
                self.run.stop(self._requested)
                if not again:
                    self._say(self.run, hurry)

    def at_once(self) -> None:
        """Wait for nothing."""
        if self.run is not None:
            self.run.engine.hurry()

    def _say(self, run: "RunContext", hurry: str) -> None:
        """What a person waits for. Not said in a signal's handler, which may not print."""
        threading.Thread(target=self._context.run, args=(_say_what_is_finished, run, hurry), daemon=True).start()


@dataclass(frozen=True)
class Invoker:
    """What the flow takes from whoever invokes it in this process."""

    plan: "Plan | None" = None
    observer: Observer = field(default_factory=Observer)
    stop: Stop | None = None
    comparison: "Comparison | None" = None
    prepared_cache: PreparedCache | None = None
    """What the variants of a comparison prepare once for all of them."""


_invoker: ContextVar[Invoker | None] = ContextVar("visionflow_invoker", default=None)


def invoker() -> Invoker:
    """The flow's invoker; one that brings nothing where Prefect itself started the run."""
    return _invoker.get() or Invoker()


@contextmanager
def invoked_by(who: Invoker) -> Iterator[None]:
    """Within, the flow is invoked by `who`."""
    token = _invoker.set(who)
    try:
        yield
    finally:
        _invoker.reset(token)


def accepted(source: object, output: object, job: Job | Mapping[str, Any]) -> Job:
    """The job that was asked for, before anything is read.

    Raises UsageError for a parameter that cannot be, and StopRun for what a form may not ask for. Prefect would say the
    first in several lines, with the values of all.
    """
    from prefect.context import FlowRunContext

    for name, place in (("source", source), ("output", output)):
        if not isinstance(place, str) or not place.strip():
            raise UsageError(f"{name}: {place!r} is no path and no URI.")
    job = job_of(job)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    by_deployment = flow_run is not None and flow_run.deployment_id is not None
    if by_deployment or any(name in os.environ for name in STARTED):
        why = refusal(job, (flow_run.job_variables if flow_run else None) or {})
        if why is not None:
            raise StopRun(why)
    return job


def _say_what_is_finished(run: "RunContext", hurry: str) -> None:
    """One line for the flow run's log, and for the screen of `visionflow serve`."""
    from prefect import get_run_logger
    from prefect.runtime import deployment

    halt, in_flight, began = run.engine.halt, run.engine.in_flight, monotonic()
    while halt is None and monotonic() - began < 1:
        threading.Event().wait(0.01)
        halt, in_flight = run.engine.halt, run.engine.in_flight
    line = finishing_line(run, in_flight) + hurry
    get_run_logger().info(line)
    invoker().observer.note(line)
    if deployment.id:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def finishing_line(run: "RunContext", in_flight: int) -> str:
    """`Finishing 5 calls in flight of run ..., at most 60 s.`."""
    halt = run.engine.halt
    patience = halt.patience if halt and halt.patience is not None else run.plan.job.timeout
    calls = f"{in_flight:,} call{'s' if in_flight != 1 else ''} in flight"
    left = run.engine.batches.left_line if run.engine.batches else None
    return f"{f'{left} ' if left else ''}Finishing {calls} of run {run.plan.run_id}, at most {patience:g} s."
