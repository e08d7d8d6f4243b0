"""Ending a run from outside, in good order: Ctrl-C, SIGTERM, Cancel and Suspend in Prefect, a notebook's interrupt.

All of them mean the same: make no more calls, finish and keep those in flight, write every table. A second one of its
kind ends at once. Signals reach the main thread alone, so a run in another thread is stopped through its Stop.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.runtime import deployment

from config.settings import grace
from tasks.asking.halting import Halt
from tasks.orchestration.beside import beside
from tasks.orchestration.caller import caller

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_S = 0.25
# Prefect's runner and workers kill a run so long after SIGTERM; no setting changes it (runner/_cancellation_manager).
PREFECT_GRACE_S = 30.0
WRITING_S = 8.0  # of the grace, for the tables, the report and the flow's last state
SAME_COMMAND = "The same command goes on where this run stopped."
AGAIN = " Ctrl-C again ends at once."


class Stop:
    """A request to end, by whoever may make it. What is asked for before there is a run waits for it."""

    def __init__(self) -> None:
        self.run: RunContext | None = None
        self._asked: Halt | None = None
        self._context = copy_context()

    @property
    def asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked is not None

    def of(self, run: "RunContext") -> None:
        """The run that is under way from now on."""
        self.run = run
        self._context = copy_context()  # the flow's, for its log: whoever asks may be elsewhere
        if self._asked is not None:
            run.stop(self._asked)

    def __call__(
        self, reason: str, remedy: str = SAME_COMMAND, *, killed_after: float | None = None, hurry: str = AGAIN
    ) -> None:
        """Make no more calls; those in flight have the job's time limit, or what the grace leaves if that is less.

        `hurry` tells a person how to wait for nothing.
        """
        patience = self.run.plan.job.timeout if self.run else None
        if patience is not None and killed_after is not None:
            patience = min(patience, max(killed_after - WRITING_S, 0.0))
        self._asked = Halt("interrupted", f"{reason} {remedy}", patience=patience)
        if self.run is not None:
            with suppress(RuntimeError):  # it has just ended, and waits for a person or writes its report
                self.run.stop(self._asked)
                self._say(self.run, hurry)

    def at_once(self) -> None:
        """Wait for nothing."""
        if self.run is not None:
            self.run.engine.hurry()

    def _say(self, run: "RunContext", hurry: str) -> None:
        """What a person waits for. Not said in a signal's handler, which may not print."""
        threading.Thread(target=self._context.run, args=(_say_what_is_finished, run, hurry), daemon=True).start()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, whatever asks the flow to end stops its run in good order, and Prefect interrupts nothing halfway."""
    stop = caller().stop or Stop()
    with _by_signal(stop), _by_suspension(stop):
        yield stop


@contextmanager
def _by_signal(stop: Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal that is ignored, as SIGHUP under nohup, stays so.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    seen: set[int] = set()

    def interrupt(number: int, _: FrameType | None) -> None:
        # A terminal gives Ctrl-C to everybody and a runner SIGTERM to its runs: one gesture, so kinds are told apart.
        if stop.run is None or number in seen:
            stop.at_once()
            for each, handler in before.items():
                signal.signal(each, handler)
            signal.raise_signal(number)
        elif not seen:
            stop(f"Interrupted ({signal.Signals(number).name}).", killed_after=_grace(number))
        seen.add(number)

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _grace(number: int) -> float | None:
    """Seconds until whoever sent SIGTERM kills; None where nobody does."""
    if number != signal.SIGTERM:
        return None
    return grace(PREFECT_GRACE_S if deployment.id else None)


@contextmanager
def _by_suspension(stop: Stop) -> Iterator[None]:
    """Suspend in Prefect's UI. Prefect would raise Pause wherever a task is submitted or ends; now it does at the end.

    For this the tasks see a context whose request to suspend is never made, and ours is looked at.
    """
    context = FlowRunContext.get()
    if context is None:  # the flow's function, called without Prefect
        yield
        return
    request = context.flow_run_suspension_request

    def look(ended: threading.Event) -> None:
        while not ended.wait(LOOK_S):
            if request.is_requested():
                stop("Suspended in Prefect.", "Resume goes on where this attempt stopped.", hurry="")
                return

    silent = context.model_copy(update={"flow_run_suspension_request": type(request)()})
    with beside(look, "suspension", patience=0), silent:
        yield


def _say_what_is_finished(run: "RunContext", hurry: str) -> None:
    """One line for the flow run's log, and for the screen of `visionflow serve`."""
    halt, in_flight, began = run.engine.halt, run.engine.in_flight, monotonic()
    while halt is None and monotonic() - began < 1:
        threading.Event().wait(0.01)
        halt, in_flight = run.engine.halt, run.engine.in_flight
    line = finishing_line(run, in_flight) + hurry
    get_run_logger().info(line)
    caller().observer.note(line)
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
