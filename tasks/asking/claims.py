"""Claims: who asks about an answer key. One process of a machine at a time; on S3 one run at a time, by its lease.

On this machine a claim is a lock that the kernel frees (tasks/storage/locks.py). On S3 it is an object, written only
if there is none, that names the run and its lease. It stays: once an answer is kept nobody looks at it, and where none
was, it is taken over when that run is over. That is one request for each call.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Protocol

from tasks.errors import Signal
from tasks.storage.conditional import ConditionsUnsupported, Found, read_found, write_if
from tasks.storage.lease import Watch
from tasks.storage.locks import RangeLocks
from tasks.storage.s3 import s3_filesystem

LOOK_S = (0.05, 0.1, 0.2, 0.5)  # between looks at what another process asks about, the last for as long as it takes
LOOK_S3_S = 2.0


class Claimed(Signal):
    """Another run asks about this picture, and did not end in time."""


class SharedClaims(Protocol):
    """Claims between machines."""

    async def first(self, key: str) -> bool:
        """Whether we may ask; the storage's own error."""


class Claims:
    """The claims of one run. Lives on one event loop; `close` frees all."""

    def __init__(self, locks: RangeLocks | None = None, shared: SharedClaims | None = None) -> None:
        self._locks = locks
        self._shared = shared

    @asynccontextmanager
    async def alone(self, key: str, seconds: float, sleep: Callable[[float], Awaitable[None]]) -> AsyncIterator[None]:
        """Hold the key on this machine, once nobody else does; Claimed if that takes longer. `sleep` may raise."""
        deadline, looks = monotonic() + seconds, iter(LOOK_S)
        while self._locks is not None and not self._locks.take(key):
            if monotonic() > deadline:
                raise Claimed
            await sleep(next(looks, LOOK_S[-1]))
        try:
            yield
        finally:
            if self._locks is not None:
                self._locks.free(key)

    async def first(self, key: str) -> bool:
        """Whether no other machine asks about the key; ours from now on. The storage's own error."""
        return self._shared is None or await self._shared.first(key)

    def close(self) -> None:
        """Free all."""
        if self._locks is not None:
            self._locks.close()


class S3Claims:
    """Claims below a prefix on S3, of a run that holds the lease."""

    def __init__(self, prefix: str, run_id: str, lease: str) -> None:
        self._prefix = prefix
        self._run_id = run_id
        self._body = json.dumps({"run_id": run_id, "lease": lease}).encode()
        self._watches: dict[str, Watch] = {}
        self._unsupported = False

    async def first(self, key: str) -> bool:
        """Whether the claim is ours: there was none, or that of a run that is over."""
        if self._unsupported:
            return True
        try:
            return await _there(self._first(f"{self._prefix}/{key}"))
        except ConditionsUnsupported:
            self._unsupported = True  # said when the run began
            return True

    async def _first(self, uri: str) -> bool:
        if await write_if(uri, self._body, None) is not None:
            return True
        found = await read_found(uri)
        if found is None:
            return False
        return not await self._is_anothers(found) and await write_if(uri, self._body, found) is not None

    async def _is_anothers(self, found: Found) -> bool:
        """Whether the claim is of another run that is at work."""
        try:
            claim = json.loads(found.data)
            run_id, lease = str(claim["run_id"]), str(claim["lease"])
        except (ValueError, TypeError, KeyError):
            return False
        if run_id == self._run_id:
            return False
        holder = await self._watches.setdefault(lease, Watch(lease)).look_soon(LOOK_S3_S)
        return holder is not None and holder.run_id == run_id


def _there(request: Coroutine[Any, Any, bool]) -> "asyncio.Future[bool]":
    """A request on the file system's own event loop, waited for on ours."""
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(request, s3_filesystem().loop))
