"""An event loop whose clock goes on only as it is waited for: a busy machine makes nothing late."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualTime(asyncio.SelectorEventLoop):
    """When nothing is left to be done, it is at once the time of what comes next. For what waits for no socket."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        private: Any = self
        due = [timer.when() for timer in private._scheduled if not timer.cancelled()]
        if due and not private._ready:
            self._now = max(self._now, min(due))
        private_super: Any = super()
        private_super._run_once()


def in_virtual_time(story: Coroutine[Any, Any, None], *, most: float = 600.0) -> None:
    """Let it happen; TimeoutError once it has waited for so many seconds, none of which passes."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(asyncio.wait_for(story, most))


def now() -> float:
    """The time of the loop that runs."""
    return asyncio.get_running_loop().time()
