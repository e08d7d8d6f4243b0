"""The pool: requests that wait to be submitted together, until they fill a batch or nobody comes any more."""

import asyncio
from collections import deque
from dataclasses import dataclass
from time import monotonic

from tasks.asking.answer import Answer
from tasks.asking.batches.requests import MOST_REQUESTS, Request, fitting
from tasks.asking.failures import Failure
from tasks.asking.halting import Halting

End = Answer | Failure | None  # of a request; None where it was never submitted after all

LOOK_S = 0.05
# A batch that is not full is submitted when nothing has come for so long: while images are being prepared, or else.
PATIENT_S, QUIET_S = 15.0, 0.4


@dataclass(eq=False, slots=True)
class Waiting:
    """A request, and who waits for its end."""

    request: Request
    end: "asyncio.Future[End]"


class Pool:
    """First come, first submitted. Lives on one event loop; `expecting` may be set from any thread."""

    def __init__(self, most_bytes: int, halting: Halting) -> None:
        self.expecting = False  # more requests, soon
        self._most_bytes = most_bytes
        self._halting = halting
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._grown = 0.0

    def add(self, request: Request) -> "asyncio.Future[End]":
        """Wait with the others."""
        waiting = Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._bytes += request.most_bytes
        self._grown = monotonic()
        return waiting.end

    async def batch(self) -> list[Waiting]:
        """The next batch, once it is full or nobody comes any more. Halted once the run is left."""
        while not self._is_due():
            await self._halting.stay(LOOK_S)
        count = fitting([waiting.request for waiting in self._waiting], self._most_bytes)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._bytes -= sum(waiting.request.most_bytes for waiting in taken)
        return taken

    def left(self) -> list[Waiting]:
        """Those that will not be submitted."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        if self._bytes >= self._most_bytes or len(self._waiting) >= MOST_REQUESTS:
            return True
        more = self.expecting and self._halting.reason is None
        return monotonic() - self._grown >= (PATIENT_S if more else QUIET_S)
