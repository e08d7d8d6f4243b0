"""Waiting, for code that is not async: a coroutine's result, whatever loop this thread may have already."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. In a notebook or an async flow, whose loop is running, it gets a thread and a loop."""
    if not _is_loop_running():
        return asyncio.run(_interruptible(coroutine))
    with ThreadPoolExecutor(1, thread_name_prefix="visionflow-completed") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """Ctrl-C cancels what the loop waits for; a callback that comes a moment later finds it done, which is no error."""
    asyncio.get_running_loop().set_exception_handler(_unless_cancelled)
    return await coroutine


def _unless_cancelled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)
