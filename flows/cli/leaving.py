"""Leaving Prefect in time: a server that hangs or is gone may not hold up the end of a run.

Its client waits a minute for each request and tries again; what reports events and logs waits without end (756 s were
seen after 9.5 s of work). So the main thread is called away from it, and what is left unsaid at the exit is dropped.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

from flows.cli.server import release_all
from flows.cli.server_process import healthy

LOOK_S = 1.0
PATIENCE_S = 8.0  # a server that answers nothing for so long, when nothing else is to be done
SETTLE_S = 5.0  # for the last events and logs


class ServerGone(BaseException):
    """Prefect's server does not answer. No Exception: nobody between may take it for a failure of the run."""


@contextmanager
def not_waiting_for(url: str, busy: Callable[[], bool]) -> Iterator[None]:
    """Raise ServerGone in the main thread, which this is, when the server hangs and the run is not busy (any more)."""
    ended = threading.Event()
    main = threading.main_thread()

    def call_away() -> None:
        since: float | None = None
        while not ended.wait(LOOK_S):
            if busy() or healthy(url):
                since = None
                continue
            since = since or monotonic()
            if monotonic() - since >= PATIENCE_S and main.ident is not None:
                signal.pthread_kill(main.ident, signal.SIGALRM)  # again and again: what it does then may wait too

    def gone(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise ServerGone

    before = signal.signal(signal.SIGALRM, gone)
    watch = threading.Thread(target=call_away, name="visionflow-leaving", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        signal.signal(signal.SIGALRM, before)


def leave(status: int) -> None:
    """Send what Prefect still has to say; if that takes too long, end the process here with this exit status."""
    if _all_said():
        return
    release_all()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # exit handlers would wait for the server without end


def _all_said() -> bool:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    said = [worker.drain_all(timeout=SETTLE_S, at_exit=False) for worker in (EventsWorker, APILogWorker)]
    return not any(one[1] for one in said if isinstance(one, tuple))
