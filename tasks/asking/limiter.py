"""How many calls may be in flight, and when the next may start.

Additive increase, multiplicative decrease, judged over short windows: a few 429s among many answers do not mean that
we are too fast (each of those images waits its own `retry-after`), a window full of them does.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

WINDOW_S = 1.0
TOO_MANY = 0.5  # share of throttled answers in a window from which we slow down
TOLERABLE = 0.35  # share up to which we speed up again
SLOWER = 0.7
FASTER = 1.1
STREAK = 5  # throttled answers in a row, none good between: the endpoint is shut, so everybody waits


class Limiter:
    """Places for calls in flight; first come, first served. Lives on one event loop and is not thread-safe."""

    def __init__(
        self,
        concurrency: int,
        *,
        per_second: float | None = None,
        one_first: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.concurrency = concurrency
        self.in_flight = 0
        self.peak = 0
        self.limit = 1.0 if one_first else float(concurrency)
        self._one_first = one_first
        self._interval = 1 / per_second if per_second else 0.0
        self._next_start = 0.0
        self._paused_until = 0.0
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._window_start = clock()
        self._good = self._throttled = self._streak = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place and for the right moment, then hold the place."""
        await self._enter()
        try:
            await self._moment()
            yield
        finally:
            self.in_flight -= 1
            self._wake()

    def answered(self) -> None:
        """A call got a real answer, of whatever kind: the endpoint keeps up."""
        self._streak = 0
        self._good += 1
        if self._one_first:
            self._one_first = False
            self.limit = float(self.concurrency)
            self._wake()
        self._review()

    def throttled(self, retry_after: float | None) -> None:
        """A call was turned away with a 429 or 529."""
        self._throttled += 1
        self._streak += 1
        if self._streak >= STREAK and retry_after:
            self._paused_until = max(self._paused_until, self._clock() + retry_after)
        self._review()

    def wake_all(self) -> None:
        """Let everybody who waits look again, for the run is ending."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def _enter(self) -> None:
        if self.in_flight >= self._whole_limit() or self._waiting:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    async def _moment(self) -> None:
        """Sleep while the engine is paused, then until this call's turn in the even spacing of the job's rate."""
        while (pause := self._paused_until - self._clock()) > 0:
            await asyncio.sleep(pause)
        if self._interval:
            start = max(self._next_start, self._clock())
            self._next_start = start + self._interval
            await asyncio.sleep(start - self._clock())

    def _wake(self) -> None:
        free = self._whole_limit() - self.in_flight
        while free > 0 and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _whole_limit(self) -> int:
        return max(1, math.floor(self.limit))

    def _review(self) -> None:
        """At the end of each window, adapt the limit to the share of throttled answers in it."""
        if self._clock() - self._window_start < WINDOW_S or self._one_first:
            return
        share = self._throttled / (self._good + self._throttled)
        if share > TOO_MANY:
            self.limit = max(1.0, self.limit * SLOWER)
        elif share < TOLERABLE:
            self.limit = min(float(self.concurrency), max(self.limit + 1, self.limit * FASTER))
        self._window_start = self._clock()
        self._good = self._throttled = 0
        self._wake()
