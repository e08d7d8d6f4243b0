"""Calling the flow from Python: in a script or thread it is waited for, where a loop runs already it is awaited."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from config.job import Job
from tasks.text import printable

Summary = dict[str, Any]


def call(source: str, output: str, job: Job | Mapping[str, Any] | None) -> Summary | Awaitable[Summary]:
    """Run the flow; its summary, or an awaitable of it where this thread has a running loop."""
    job = job if isinstance(job, Job) else Job.model_validate(job or {})

    def run() -> Summary:
        return _flow()(source, output, job)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    return _beside(run)


async def _beside(run: Callable[[], Summary]) -> Summary:
    """The flow in a thread of its own, so that the loop goes on; in an async flow it is a subflow, by the context."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="visionflow-run")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, copy_context().run, run)
    finally:
        thread.shutdown(wait=False)


def _flow() -> Callable[..., Summary]:
    """The flow. Where nobody has loaded Prefect yet it gets the server that the command line would take."""
    if "prefect" in sys.modules:
        from flows.analyze_images import analyze_images
    else:
        from flows.cli.server import find_or_start

        server = find_or_start()
        server.set_environment()
        from flows.analyze_images import analyze_images

        server.ready(_say)
    return analyze_images


def _say(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
