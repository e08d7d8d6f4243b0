"""Group commit of requests: what comes up while one is under way goes with the next, all of it at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Grouped(Generic[T]):
    """Sends what it is given in groups, one group after another. Lives on one event loop at a time."""

    def __init__(self, send: Callable[[list[T]], Awaitable[object]], gather_s: float = 0.0) -> None:
        """`send` has one group; the next leaves once it has returned, and `gather_s` after its first item came."""
        self._send = send
        self._gather_s = gather_s
        self._items: list[T] = []
        self._next: asyncio.Task[None] | None = None  # gathers, or waits for the one before
        self._under_way: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Wait until a group with the item was sent. Raises what sending it raised."""
        if self._next is None or self._next.done():
            self._items = []
            self._next = asyncio.create_task(self._send_after(self._under_way))
            self._next.add_done_callback(_looked_at)
        self._items.append(item)
        await asyncio.shield(self._next)  # whoever leaves early does not take the others' group along

    async def _send_after(self, before: asyncio.Task[None] | None) -> None:
        await asyncio.sleep(self._gather_s)
        if before is not None and not before.done():
            await asyncio.wait([before])
        items, self._items = self._items, []
        self._under_way, self._next = self._next, None
        await self._send(items)


def _looked_at(task: asyncio.Task[None]) -> None:
    """All who waited for it may have left."""
    if not task.cancelled():
        task.exception()
