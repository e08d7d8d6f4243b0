"""The cap on what a run may spend: the worst case of each call is set aside before the call is made."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import Enum, auto

from tasks.errors import Signal

WARNING_SHARE = Decimal("0.8")


class BudgetSpent(Signal):
    """The next call could pass the cap."""


class Reservation:
    """The worst case of one call, set aside; what the call really cost takes its place."""

    def __init__(self, worst: Decimal) -> None:
        self.worst = worst
        self.cost = Decimal(0)

    def paid(self, cost: Decimal) -> None:
        """The call cost this much."""
        self.cost = cost

    def maybe_paid(self) -> None:
        """The call may have been paid, so the cap has to count it as if it had."""
        self.cost = self.worst


class Room(Enum):
    """Whether one more call fits under the cap."""

    TAKEN = auto()
    LATER = auto()  # calls in flight may leave room
    NEVER = auto()


class Budget:
    """The cap, what is used and set aside of it, and who waits for room under it. Lives on one event loop."""

    def __init__(self, cap: Decimal | None, *, in_rounds: bool = False) -> None:
        """`in_rounds`: room comes back an hour later, as with batches: waited for up to four fifths of the cap."""
        self.cap = cap
        self._in_rounds = in_rounds
        self.used = Decimal(0)  # US dollars paid, or perhaps paid
        self.set_aside = Decimal(0)  # US dollars that calls in flight may still cost
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ending = False
        self._last = True  # the cap will not be raised

    def wake_all(self) -> None:
        """The run is ending: nobody waits any more for room."""
        self._ending = True
        while self._waiting:
            self._waiting.popleft().set_result(None)

    def recap(self, cap: Decimal | None, *, last: bool) -> None:
        """Another cap from now on; `last` if there will be no higher one."""
        self.cap, self._last = cap, last
        self._wake_next()

    @property
    def short(self) -> bool:
        """Whether a call waits for room, and no other that is in flight could leave it some."""
        return bool(self._waiting) and not self.set_aside

    @property
    def nearly_spent(self) -> bool:
        """Whether four fifths of the cap are used up: time for a warning."""
        return self.cap is not None and self.used >= self.cap * WARNING_SHARE

    @asynccontextmanager
    async def reserved(self, worst: Decimal) -> AsyncIterator[Reservation]:
        """Hold the worst case of one call; wait while calls in flight may still leave room.

        BudgetSpent if there is none, or no time to wait for it because the run is ending.
        """
        reservation = Reservation(worst)
        if self.cap is None:
            yield reservation
            return
        await self._set_aside(worst)
        try:
            yield reservation
        finally:
            self.set_aside -= worst
            self.used += reservation.cost
            self._wake_next()

    async def hold(self, worst: Decimal) -> None:
        """The same for what is settled much later, by `settle`."""
        await self._set_aside(worst)

    async def _set_aside(self, worst: Decimal) -> None:
        while (room := self._reserve(worst)) is not Room.TAKEN:
            if room is Room.NEVER or self._ending:
                self._wake_next()
                raise BudgetSpent
            await self._change()
        self._wake_next()

    def _reserve(self, worst: Decimal) -> Room:
        """Set the worst case of a call aside if it fits under the cap as it is now."""
        if self.cap is None or self.used + self.set_aside + worst <= self.cap:
            self.set_aside += worst
            return Room.TAKEN
        may_come = self.set_aside or not self._last
        return Room.LATER if may_come and not (self._in_rounds and self.nearly_spent) else Room.NEVER

    def owe(self, worst: Decimal) -> None:
        """Set aside what may be billed already, whether it fits under the cap or not."""
        self.set_aside += worst

    def settle(self, worst: Decimal, cost: Decimal) -> None:
        """What may have been billed has cost so much."""
        self.set_aside -= worst
        self.used += cost
        self._wake_next()

    async def _change(self) -> None:
        """Wait until a call has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _wake_next(self) -> None:
        """Let the first in line look again; whoever finds an answer, room or none, wakes the next."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
