"""Whether a batch can be expected in time, by how long this endpoint's batches have taken."""

from collections import deque
from collections.abc import Callable
from time import monotonic

FIRST_S = 3600.0  # as long as most batches take, says the API's guide; until one of this endpoint has ended
REMEMBERED = 10  # batches: the slowest of the last so many is expected
# Before the deadline, so that what is still in batches then can be cancelled and asked about online: some minutes, as
# cancelling takes, and some seconds an image, but never more than a quarter of the time in all.
CANCEL_S, CALL_S, MOST_SHARE = 300.0, 5.0, 0.25


class Deadline:
    """When all must be answered, in seconds from now; never if None."""

    def __init__(self, seconds: float | None, concurrency: int, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._seconds = seconds
        self._end = None if seconds is None else clock() + seconds
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, seconds: float | None) -> None:
        """A batch has taken so long."""
        if seconds is not None:
            self._took.append(seconds)

    @property
    def expected(self) -> float:
        """Seconds that a batch submitted now is expected to take."""
        return max(self._took, default=FIRST_S)

    @property
    def too_late(self) -> bool:
        """Whether a batch submitted now would probably come too late."""
        return self._end is not None and self._clock() + self.expected > self._end

    def until_cancelling(self, requests: int) -> float | None:
        """Seconds until batches with so many requests have to be cancelled; None where there is no deadline."""
        if self._end is None or self._seconds is None:
            return None
        spare = min(CANCEL_S + requests * CALL_S / self._concurrency, self._seconds * MOST_SHARE)
        return self._end - spare - self._clock()
