"""Waiting, for code that is not async: a coroutine's result, whatever loop this thread may have already."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. In a notebook or an async flow, whose loop is running, it gets a thread and a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1, thread_name_prefix="visionflow-completed") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()
