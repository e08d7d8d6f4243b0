"""Claims: who asks about an answer key. One process of a machine at a time; on S3 one run at a time, by its lease.

On this machine a claim is a lock that the kernel frees (tasks/storage/locks.py); between machines it stands in a log
on S3 (tasks/asking/claim_log.py).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Protocol

from tasks.asking.pages import Later
from tasks.errors import Signal
from tasks.storage.locks import RangeLocks

# Between looks at what another process asks about, the last for as long as it takes.
CLAIM_POLL_S = (0.05, 0.1, 0.2, 0.5)


class Claimed(Signal):
    """Another run asks about this picture, and did not end in time."""


class SharedClaims(Protocol):
    """Claims between machines."""

    async def first(self, key: str) -> bool:
        """Claim the key; whether we may ask. The storage's own error."""

    def done(self, key: str) -> None:
        """Nobody has to wait for us any longer."""

    def close(self) -> None:
        """Free all."""


class Claims:
    """The claims of one run. Lives on one event loop; `close` frees all."""

    def __init__(self, locks: RangeLocks | None = None, shared: SharedClaims | None = None) -> None:
        self._locks = locks
        self._shared = shared

    @asynccontextmanager
    async def alone(
        self, key: str, seconds: float, sleep: Callable[[float], Awaitable[None]], *, held: bool = False
    ) -> AsyncIterator[None]:
        """Hold the key on this machine, once nobody else does; Claimed if that takes longer. `sleep` may raise.

        What is left with Later stays held, for whoever comes again with `held`.
        """
        deadline, looks = monotonic() + seconds, iter(CLAIM_POLL_S)
        while not held and self._locks is not None and not self._locks.take(key):
            if monotonic() > deadline:
                raise Claimed
            await sleep(next(looks, CLAIM_POLL_S[-1]))
        later = False
        try:
            yield
        except Later:
            later = True
            raise
        finally:
            if not later:
                self._free(key)

    def _free(self, key: str) -> None:
        if self._locks is not None:
            self._locks.free(key)
        if self._shared is not None:
            self._shared.done(key)

    async def first(self, key: str) -> bool:
        """Whether no other machine asks about the key; ours from now on. The storage's own error."""
        return self._shared is None or await self._shared.first(key)

    def close(self) -> None:
        """Free all."""
        for held in (self._locks, self._shared):
            if held is not None:
                held.close()
