"""Group commit: one thread makes durable whatever was written since it did so last, and tells all who wait for that."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

LEAVING_S = 10.0


class Commits:
    """Calls `sync` whenever something is new, as often as the disk takes; safe to use from several threads.

    After a failure nothing counts as durable any more: what the system could not write it may have dropped.
    """

    def __init__(self, sync: Callable[[], None], *, patience: float = LEAVING_S) -> None:
        """`patience`: seconds for the last of them, at the end."""
        self._sync = sync
        self._patience = patience
        self._changed = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._dirty = self._over = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def soon(self) -> None:
        """Something was written; nobody waits for it."""
        with self._changed:
            self._wake()

    def done(self) -> "Future[None]":
        """Done once all that was written before is durable; OSError if it may never be."""
        future: Future[None] = Future()
        with self._changed:
            self._waiting.append(future)
            self._wake()
        return future

    def end(self) -> None:
        """Make durable what is left, and end the thread; one that the disk keeps waiting is left behind."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(self._patience)

    def _wake(self) -> None:
        self._dirty = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._commit_for_ever, name="visionflow-commits", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _commit_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._over)
                if not self._dirty:
                    return
                waiting, self._waiting, self._dirty = self._waiting, [], False
            try:
                if self._error is None:
                    self._sync()
            except OSError as error:
                self._error = error
            for future in waiting:
                if not future.set_running_or_notify_cancel():
                    continue  # a run that is cut off waits for nothing
                if self._error is None:
                    future.set_result(None)
                else:
                    future.set_exception(self._error)
