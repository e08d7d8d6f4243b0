"""Additive increase, multiplicative decrease: what throttled answers teach about the rate that an endpoint bears.

Judged over windows. Whether slowing down helps is found out by trying it: an endpoint with a limit answers as many
calls as before, one that turns calls away whatever we do answers fewer, and then the old rate comes back, for each
image has waited its own `retry-after` already.
"""

from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 1.0
ENOUGH = 50  # answers that make a window worth judging
LONGEST_WINDOW_S = 20.0
TOLERABLE = 0.1  # share of throttled answers up to which the rate may grow
SLOWER = 0.95  # of the calls that were answered, which a limited endpoint bears: 0.86 of those sent, or less
SLOWEST = 0.1  # calls a second
HELD = 0.88  # slowing down helped if so much of the good answers remained
FASTER = 0.04  # of the free rate, added after a good window, and twice as much after each further one
PATIENCE = 64  # windows between two tries that did not help


@dataclass(slots=True)
class Window:
    """Calls and answers since `start`."""

    start: float
    sent: int = 0
    good: int = 0
    throttled: int = 0
    latency: float = 0.0  # the sum over good answers
    waited: bool = False  # somebody had to wait for a slot or a moment: there was more to ask


class AdaptiveRate:
    """Calls a second that the endpoint seems to bear; None while nothing holds us back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.per_second: float | None = None
        self._clock = clock
        self._window = Window(clock())
        self._begun = False  # the first window starts with no call in flight, so it counts too few answers
        self._free = 0.0  # calls a second before the first brake
        self._tried: tuple[float | None, float] | None = None  # the rate before the try, and good answers a second then
        self._sit_out = 0
        self._good_windows = 0  # since the last brake

    def sent(self, *, waited: bool) -> None:
        """A call leaves, and whether it had to wait for that."""
        if self._clock() >= self._window.start:
            self._window.sent += 1
            self._window.waited |= waited

    def good(self, seconds: float) -> None:
        """A real answer came after so many seconds."""
        if self._clock() >= self._window.start:
            self._window.good += 1
            self._window.latency += seconds
            self._review()

    def throttled(self) -> None:
        """A call was turned away."""
        if self._clock() >= self._window.start:
            self._window.throttled += 1
            self._review()

    def _review(self) -> None:
        window, now = self._window, self._clock()
        elapsed, answers = now - window.start, window.good + window.throttled
        latency = window.latency / window.good if window.good else 0.0
        if elapsed < min(max(WINDOW_S, latency), LONGEST_WINDOW_S) or (answers < ENOUGH and elapsed < LONGEST_WINDOW_S):
            return
        before = self.per_second
        if self._begun:
            self._decide(window, elapsed)
        self._begun = True
        # A change of rate shows only when the calls in flight have ended.
        self._window = Window(now + (latency if self.per_second != before else 0.0))

    def _decide(self, window: Window, elapsed: float) -> None:
        sent, good = window.sent / elapsed, window.good / elapsed
        if window.throttled <= TOLERABLE * (window.good + window.throttled) or not window.waited:
            self._speed_up()
        elif self._tried is not None:
            self._judge(sent, good)
        elif self._sit_out:
            self._sit_out -= 1
        else:
            self._slow_down(sent, good)

    def _speed_up(self) -> None:
        self._tried = None
        if self.per_second is not None:
            self.per_second += FASTER * self._free * 2**self._good_windows
            self._good_windows += 1
            if self.per_second >= self._free:
                self.per_second = None

    def _slow_down(self, sent: float, good: float) -> None:
        self._good_windows = 0
        if self.per_second is None:
            self._free = sent
        self._tried = (self.per_second, good)
        self.per_second = max(SLOWER * good, SLOWEST)

    def _judge(self, sent: float, good: float) -> None:
        assert self._tried is not None
        before, good_before = self._tried
        if good >= HELD * good_before:
            self._slow_down(sent, good)
            return
        self._tried = None
        self.per_second = before
        self._sit_out = PATIENCE
