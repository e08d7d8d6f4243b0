"""Ending a run early: the first reason given stands, everybody who waits hears of it at once, and failures in a row.

A streak of failures says something about the endpoint or the question, and may be the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Literal

from tasks.errors import Signal, StopRun

HaltKind = Literal["paused", "stopped", "interrupted", "waiting"]  # the statuses of runs that were halted


@dataclass(frozen=True, slots=True)
class Halt:
    """Why no more calls are made, and for how many more seconds those in flight may go on; their own if None."""

    kind: HaltKind
    message: str
    error: StopRun | None = None
    patience: float | None = None

    @classmethod
    def stopped(cls, error: StopRun) -> "Halt":
        """By what every image needs and is wrong."""
        return cls("stopped", str(error), error)


ENDED_EARLY = Halt("stopped", "The run ended early.")


def at_once(error: type[BaseException] | None) -> bool:
    """Whether a block is left by a person in a hurry, as with a second Ctrl-C: nobody waits for calls in flight.

    Other exceptions that are no errors, such as Prefect's Pause and Abort, leave time to keep what was paid for.
    """
    return error is not None and issubclass(error, KeyboardInterrupt | SystemExit)


class Halted(Signal):
    """No more calls are made."""


class CutOff(Signal):
    """A call that was in flight when the run had to end."""


class Halting:
    """Whether the run is to end, for one event loop; `reason` may be read from any thread."""

    def __init__(self, wake_waiting: Callable[[], None]) -> None:
        self.reason: Halt | None = None
        self._event = asyncio.Event()
        self._leaving = asyncio.Event()
        self._wake_waiting = wake_waiting
        self._in_flight: set[asyncio.Timeout] = set()

    def halt(self, reason: Halt) -> None:
        """Make no more calls; those in flight go on, for as long as the reason says."""
        if reason.kind != "paused":
            self._leaving.set()
        if self.reason is None:
            self.reason = reason
            self._event.set()
            self._wake_waiting()
        if reason.patience is not None:
            asyncio.get_running_loop().call_later(reason.patience, self.cut_off)

    def also(self, text: str) -> None:
        """Add to why the run was halted what else a person has to know."""
        if self.reason is not None:
            self.reason = replace(self.reason, message=f"{self.reason.message} {text}")

    def cut_off(self) -> None:
        """Wait for no call in flight any longer: each ends with CutOff."""
        for call in self._in_flight:
            if not call.expired():
                call.reschedule(0)

    @asynccontextmanager
    async def in_flight(self) -> AsyncIterator[None]:
        """A call, which may be cut off."""
        try:
            async with asyncio.timeout(None) as call:
                self._in_flight.add(call)
                try:
                    yield
                finally:
                    self._in_flight.discard(call)
        except TimeoutError:
            if call.expired():
                raise CutOff from None
            raise

    def check(self) -> None:
        """Halted if no more calls may be made."""
        if self.reason is not None:
            raise Halted

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than the run goes on: Halted as soon as it ends."""
        await _halted_by(self._event, seconds)

    async def stay(self, seconds: float) -> None:
        """Wait for what runs elsewhere: Halted once the run is left, but not where it only asks for no more."""
        await _halted_by(self._leaving, seconds)

    @property
    def left(self) -> bool:
        """Whether the run is left, whatever runs elsewhere."""
        return self._leaving.is_set()


ALIKE_FAILURES = 10  # so many first ones, all failed the same way: the question, or the endpoint, is wrong


@dataclass(slots=True)
class FailureStreak:
    """Failed and throttled calls since the last answer."""

    calls: int = 0
    since: float = 0.0
    alike: int = 0  # the last so many failed in the same way
    _kind: str = ""
    _answered: bool = False

    def add(self, kind: str) -> None:
        """One more, of this kind."""
        if not self.calls:
            self.since = monotonic()
        self.calls += 1
        self.alike = self.alike + 1 if kind == self._kind else 1
        self._kind = kind

    def end(self) -> None:
        """There was an answer."""
        self.calls = self.alike = 0
        self._answered = True

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return monotonic() - self.since if self.calls else 0.0

    @property
    def all_alike(self) -> bool:
        """Whether there never was an answer, and the last calls all failed in the same way."""
        return not self._answered and self.alike >= ALIKE_FAILURES


async def _halted_by(event: asyncio.Event, seconds: float) -> None:
    """Return when the time is over; Halted as soon as the event is set before."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
    raise Halted
