"""What a run has used up and set aside of its cap: by one process, or by all processes that ask for it."""

import fcntl
import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_CEILING, Decimal
from enum import Enum, auto

AMOUNTS = struct.Struct("qq")  # used, set aside: billionths of a dollar, the smallest amount in a table
BILLIONTH = Decimal("1e-9")


class Room(Enum):
    """Whether one more call fits under the cap."""

    TAKEN = auto()
    LATER = auto()  # calls in flight may leave room
    NEVER = auto()


class Spend:
    """US dollars used up and set aside by one process. Lives on one event loop."""

    poll_s: float | None = None  # others change it only through us: no need to look again

    def __init__(self) -> None:
        self.used = Decimal(0)
        self.set_aside = Decimal(0)

    def reserve(self, worst: Decimal, cap: Decimal) -> Room:
        """Set the worst case of a call aside if it fits."""
        if self.used + self.set_aside + worst <= cap:
            self.set_aside += worst
            return Room.TAKEN
        return Room.LATER if self.set_aside else Room.NEVER

    def settle(self, worst: Decimal, cost: Decimal) -> None:
        """The call has ended and has used up so much."""
        self.set_aside -= worst
        self.used += cost


class SharedSpend(Spend):
    """The same in memory that processes share, locked for each access; amounts are rounded up to a billionth.

    The lock is the kernel's and belongs to a process (POSIX `fcntl`): a process that is killed cannot keep it.
    """

    poll_s = 0.05

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as we are
            self._file.truncate(AMOUNTS.size)
            fd = self._file.fileno()
        self.fd = fd
        self._memory = mmap.mmap(fd, AMOUNTS.size)

    @property
    def used(self) -> Decimal:  # type: ignore[override]
        """Dollars paid, or perhaps paid, by all processes."""
        used, _ = AMOUNTS.unpack_from(self._memory)
        return Decimal(used) * BILLIONTH

    @property
    def set_aside(self) -> Decimal:  # type: ignore[override]
        """Dollars that calls in flight of all processes may still cost."""
        _, set_aside = AMOUNTS.unpack_from(self._memory)
        return Decimal(set_aside) * BILLIONTH

    def reserve(self, worst: Decimal, cap: Decimal) -> Room:
        """Set the worst case of a call aside if it fits."""
        with self._locked() as (used, set_aside):
            if (used + set_aside + _billionths(worst)) * BILLIONTH <= cap:
                AMOUNTS.pack_into(self._memory, 0, used, set_aside + _billionths(worst))
                return Room.TAKEN
            return Room.LATER if set_aside else Room.NEVER

    def settle(self, worst: Decimal, cost: Decimal) -> None:
        """The call has ended and has used up so much."""
        with self._locked() as (used, set_aside):
            AMOUNTS.pack_into(self._memory, 0, used + _billionths(cost), set_aside - _billionths(worst))

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, int]]:
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            yield AMOUNTS.unpack_from(self._memory)
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)


def _billionths(dollars: Decimal) -> int:
    return int(dollars.scaleb(9).to_integral_value(ROUND_CEILING))
