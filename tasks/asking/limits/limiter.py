"""How many calls are in flight, and when the next may start.

A call needs a slot, of which the job has as many as its concurrency, and then its moment: the job's own rate, the
limits that the endpoint's headers tell of, and what throttled answers taught. An image that was turned away waits
its own `retry-after` without holding a slot; when all are turned away, everybody waits, and then one call goes ahead
to see.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import monotonic

from tasks.asking.limits.aimd import AdaptiveRate
from tasks.asking.limits.buckets import HeaderBuckets, Load

SHUT = 20  # throttled answers in a row, not one good between: the endpoint is shut
ACCEPTED = 0.25  # unless so many of the calls in flight at the first of them are still under way: those may be good
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # where the endpoint does not say how long
PACE_POLL_S = 0.1  # how often those who wait look whether their moment has come sooner
LATE_S = 0.01  # a call that slept so much too long does not make the next one late


class Limiter:
    """Slots for calls in flight; repeated calls first, then first come, first served. Lives on one event loop."""

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
        self._opened = not one_first
        self._slots = concurrency if self._opened else 1
        self._held = 0
        self._per_second = per_second
        self._clock = clock
        self._next_start = 0.0
        self._buckets = HeaderBuckets(clock)
        self._adaptive = AdaptiveRate(clock)
        self._fresh: deque[asyncio.Future[None]] = deque()
        self._repeated: deque[asyncio.Future[None]] = deque()
        self._turn = asyncio.Lock()
        self._sent = 0
        self._streak = self._pauses = 0
        self._streak_start = self._in_flight_then = self._still_open = 0
        self._paused_until = 0.0
        self._probing = False
        self._ending = False
        self._next_leaves = 0.0
        self._come_again: Counter[float] = Counter()  # when those who wait by themselves do

    @asynccontextmanager
    async def slot(self, load: Load, *, repeated: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and for the right moment, then hold the slot."""
        waited = await self._enter(repeated)
        try:
            waited |= await self._pace(load)
            number, probe = self._leave(load, waited=waited)
            try:
                yield
            finally:
                self.in_flight -= 1
                self._probing &= not probe
                self._still_open -= number <= self._streak_start
                self._buckets.ended(load)
        finally:
            self._held -= 1
            self._wake()

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take in the limits that an answer's headers tell of."""
        self._buckets.observe(headers)

    def answered(self, seconds: float) -> None:
        """A call got a real answer, of whatever kind, after so many seconds: the endpoint keeps up."""
        self._streak = self._pauses = 0
        self._adaptive.good(seconds)
        self._opened = True
        if self._slots < self.concurrency:
            self._slots = self.concurrency
            self._wake()

    def throttled(self, retry_after: float | None) -> None:
        """A call was turned away with a 429 or 529."""
        if not self._streak:
            self._streak_start, self._in_flight_then, self._still_open = self._sent, self.in_flight, self.in_flight
        self._streak += 1
        self._adaptive.throttled()
        now = self._clock()
        if self._shut and now >= self._paused_until:
            self._pauses += 1
            self._paused_until = now + (retry_after or min(FIRST_PAUSE_S * 2 ** (self._pauses - 1), LONGEST_PAUSE_S))
        elif self._shut and retry_after:
            self._paused_until = max(self._paused_until, now + retry_after)

    @property
    def held(self) -> int:
        """Slots taken: calls in flight, and those that wait for their moment."""
        return self._held

    def resize(self, concurrency: int, per_second: float | None) -> None:
        """So many slots and calls a second from now on; slots that are taken beyond stay until their calls end."""
        self.concurrency, self._per_second = concurrency, per_second
        self._slots = concurrency if self._opened else min(concurrency, 1)
        self._wake()

    @contextmanager
    def aside(self, seconds: float) -> Iterator[None]:
        """Whoever was turned away waits so long by itself, without a slot."""
        until = self._clock() + seconds
        self._come_again[until] += 1
        try:
            yield
        finally:
            self._come_again[until] -= 1
            if not self._come_again[until]:
                del self._come_again[until]

    @property
    def waits(self) -> float:
        """Seconds until the next call may leave, as far as is known; 0 where nothing but slots holds calls back."""
        next_leaves = self._next_leaves
        if not self._held and (come_again := list(self._come_again)):
            next_leaves = max(next_leaves, min(come_again))
        return max(next_leaves - self._clock(), 0.0)

    def wake_all(self) -> None:
        """Let everybody who waits go on, for the run is ending."""
        self._ending = True
        for queue in (self._repeated, self._fresh):
            while queue:
                queue.popleft().set_result(None)
                self._held += 1

    @property
    def _shut(self) -> bool:
        return self._streak >= SHUT and self._still_open <= ACCEPTED * self._in_flight_then

    async def _enter(self, repeated: bool) -> bool:
        """Take a slot, and say whether there was a wait for it."""
        if (self._held < self._slots and not self._fresh and not self._repeated) or self._ending:
            self._held += 1
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._repeated if repeated else self._fresh).append(waiter)
        await waiter
        return True

    def _wake(self) -> None:
        """Hand free slots to those who wait; they hold them from this moment on."""
        while self._held < self._slots and (queue := self._repeated or self._fresh):
            queue.popleft().set_result(None)
            self._held += 1

    async def _pace(self, load: Load) -> bool:
        """Wait for this call's turn, and say whether there was a wait for it."""
        if not self._turn.locked() and self._delay(load) <= 0:
            return False
        async with self._turn:
            while (delay := self._delay(load)) > 0:
                self._next_leaves = self._clock() + delay
                await asyncio.sleep(min(delay, PACE_POLL_S))
        return True

    def _delay(self, load: Load) -> float:
        """Seconds until a call may start; a look ahead, since answers meanwhile may change it."""
        if self._ending:
            return 0.0
        if self._shut and self._probing:
            return PACE_POLL_S
        now = self._clock()
        return max(self._paused_until - now, self._next_start - now, self._buckets.wait(load))

    def _leave(self, load: Load, *, waited: bool) -> tuple[int, bool]:
        """Count the call in: its number, and whether it is the one that goes ahead to see."""
        self._sent += 1
        self.in_flight += 1
        self._probing = self._shut
        self._buckets.left(load)
        self._adaptive.sent(waited=waited)
        rates = [rate for rate in (self._per_second, self._adaptive.per_second) if rate]
        if rates:
            self._next_start = max(self._next_start, self._clock() - LATE_S) + 1 / min(rates)
        return self._sent, self._probing
