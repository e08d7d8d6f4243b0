"""Ending a run from outside, in good order: Ctrl-C, SIGTERM, Cancel and Suspend in Prefect, a notebook's interrupt.

All of them mean the same: make no more calls, finish and keep those in flight, write every table. A second one of its
kind ends at once. Signals reach the main thread alone, so a run in another thread is stopped through its Stop.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefect.context import FlowRunContext
from prefect.runtime import deployment

from config.settings import grace
from tasks.orchestration.invoker import Stop, invoker
from tasks.orchestration.progress import beside

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SUSPENSION_POLL_S = 0.25
# Prefect's runner and workers kill a run so long after SIGTERM; no setting changes it (runner/_cancellation_manager).
PREFECT_GRACE_S = 30.0


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, whatever asks the flow to end stops its run in good order, and Prefect interrupts nothing halfway."""
    stop = invoker().stop or Stop()
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
        while not ended.wait(SUSPENSION_POLL_S):
            if request.is_requested():
                stop("Suspended in Prefect.", "Resume goes on where this attempt stopped.", hurry="")
                return

    silent = context.model_copy(update={"flow_run_suspension_request": type(request)()})
    with beside(look, "suspension", patience=0), silent:
        yield
