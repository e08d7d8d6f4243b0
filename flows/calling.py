"""Calling the flow from Python: in a script or thread it is waited for, where a loop runs already it is awaited."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from config.job import Job
from tasks.errors import RowsFailed
from tasks.planning.given import job_of
from tasks.text import printable

if TYPE_CHECKING:
    from flows.cli.server import Server

Summary = dict[str, Any]


def call(source: str, output: str, job: Job | Mapping[str, Any] | None) -> Summary | Awaitable[Summary]:
    """Run the flow; its summary, or an awaitable of it where this thread has a running loop."""
    job = job_of(job or {})
    server = _server()

    def run() -> Summary:
        from flows.analyze_images import analyze_images
        from flows.cli.server import without_heartbeats

        if server is not None:
            server.ready(_say)
        try:
            with nullcontext() if server is None else without_heartbeats():
                return analyze_images(source, output, job)
        except RowsFailed as error:  # what the flow run ends with; here it is the summary's to say
            return error.summary

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    return _beside(run)


async def _beside(run: Callable[[], Summary]) -> Summary:
    """The flow in a thread of its own, so that the loop goes on; in an async flow it is a subflow, by the context."""
    from tasks.orchestration.invoker import Invoker, Stop, invoked_by

    stop = Stop()
    with invoked_by(Invoker(stop=stop)):
        context = copy_context()
    thread = ThreadPoolExecutor(1, thread_name_prefix="visionflow-run")
    running = asyncio.get_running_loop().run_in_executor(thread, context.run, run)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:  # once: a second one is not waited for
        stop("Interrupted where it was awaited.")
        await asyncio.wait([running])
        running.exception()  # that it was interrupted is known
        raise
    finally:
        thread.shutdown(wait=False)


def _server() -> "Server | None":
    """Where nobody has loaded Prefect yet, the server that the command line would take; it may be on its way."""
    if "prefect" in sys.modules:
        return None
    from flows.cli.server import find_or_start

    server = find_or_start()
    server.set_environment()
    return server


def _say(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
