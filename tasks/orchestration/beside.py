"""A thread beside a run, for as long as the run is within: who shows it, watches it or keeps in touch."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context


@contextmanager
def beside(work: Callable[[threading.Event], None], name: str, *, patience: float | None = None) -> Iterator[None]:
    """Within, `work` runs in a thread of this context; its event tells it to end, and then it is waited for.

    `patience` is in seconds; None waits until it has ended, 0 not at all.
    """
    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(work, ended), name=f"visionflow-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience)
