"""Ending a run early: the first reason given stands, and everybody who waits hears of it at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import StopRun


@dataclass(frozen=True, slots=True)
class Halt:
    """Why no more calls are made."""

    kind: str  # paused, stopped, interrupted
    message: str
    error: StopRun | None = None


ENDED_EARLY = Halt("stopped", "The run ended early.")


def at_once(error: type[BaseException] | None) -> bool:
    """Whether a block is left by a signal, such as a second Ctrl-C: then nobody waits for calls in flight."""
    return error is not None and not issubclass(error, Exception)


class Halted(Exception):
    """No more calls are made."""


class Halting:
    """Whether the run is to end, for one event loop; `reason` may be read from any thread."""

    def __init__(self, wake_waiting: Callable[[], None]) -> None:
        self.reason: Halt | None = None
        self._event = asyncio.Event()
        self._wake_waiting = wake_waiting

    def halt(self, reason: Halt) -> None:
        """Make no more calls; those in flight go on."""
        if self.reason is None:
            self.reason = reason
            self._event.set()
            self._wake_waiting()

    def check(self) -> None:
        """Halted if no more calls may be made."""
        if self.reason is not None:
            raise Halted

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than the run goes on: Halted as soon as it ends."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise Halted
