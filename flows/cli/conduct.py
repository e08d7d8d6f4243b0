"""Conducting a run from the command line: plan while Prefect's server comes up, then call the flow."""

import gc
import logging
from contextlib import AbstractContextManager
from typing import Any

from config.job import Job
from flows.cli.server import Server, ServerGone, not_waiting_for, without_heartbeats
from flows.cli.server_process import healthy
from flows.cli.terminal import Terminal, shortened
from flows.cli.without_pandas import leave_pandas_out
from tasks.errors import RowsFailed, StopRun
from tasks.orchestration.context import RunContext
from tasks.orchestration.invoker import Ended, Invoker, Observer, Todo, invoked_by
from tasks.planning.plan import Plan, make_plan
from tasks.text import counted


def conduct(source: str, output: str, job: Job, *, server: Server, terminal: Terminal) -> dict[str, Any]:
    """Plan, run, and return the summary.

    StopRun when the run could not start, or something could not be written at its end.
    """
    if job.key_block or job.storage_block:  # they are Prefect's: its server is waited for first
        make_ready(server, terminal)
        from tasks.orchestration.blocks import keys_from_blocks

        with keys_from_blocks(job):
            return _conduct(source, output, job, server=server, terminal=terminal)
    return _conduct(source, output, job, server=server, terminal=terminal)


def _conduct(source: str, output: str, job: Job, *, server: Server, terminal: Terminal) -> dict[str, Any]:
    leave_pandas_out()
    with terminal.listing() as progress:
        plan = make_plan(source, output, job, progress)
    announce(plan, terminal)
    make_ready(server, terminal)
    from httpx import HTTPError
    from prefect.exceptions import CancelledRun

    from flows.analyze_images import analyze_images

    keep_modules()
    follower, unreported = Follower(terminal), None
    try:
        with (
            invoked_by(Invoker(plan, follower)),
            not_waiting_for(server.url, busy=lambda: follower.busy),
            without_heartbeats(),
        ):
            analyze_images(source, output, job)
    except RowsFailed:
        pass  # the summary says so
    except (StopRun, CancelledRun) as error:
        if follower.end is None:
            raise  # before the first row
        unreported = None if follower.end.halt else error  # why it was halted, the summary says
    except (HTTPError, ServerGone) as error:  # of Prefect's client, before the run or at its end
        if not follower.began:
            raise StopRun(
                f"Prefect's server at {server.url} stopped answering. Start it again, or unset PREFECT_API_URL."
            ) from None
        if follower.end is None or (isinstance(error, HTTPError) and healthy(server.url)):
            raise
        terminal.note("Prefect's server is gone: its UI lacks the end of this run. Results and bill are complete.")
    assert follower.end is not None
    terminal.failures(follower.end.failures)
    terminal.summary(follower.end.summary)
    if unreported is not None:
        raise unreported
    return follower.end.summary


def make_ready(server: Server, terminal: Terminal) -> None:
    """Import Prefect while its server is starting, and wait for that."""
    server.set_environment()
    import prefect  # noqa: F401

    logging.raiseExceptions = False  # else Prefect writes over our last lines where its server is gone

    terminal.waiting("Prefect's server", lambda: server.ready(terminal.note))


def keep_modules() -> None:
    """They stay for good: looking through them for garbage would take a sixth of the start."""
    gc.freeze()
    gc.enable()


class Follower(Observer):
    """Shows the run in the terminal, and knows how far it is."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.began = False
        self.end: Ended | None = None

    @property
    def busy(self) -> bool:
        """Whether the run has still to ask or to write."""
        return self.began and self.end is None

    def note(self, text: str) -> None:
        """Say it."""
        self.terminal.note(text)

    def opened(self) -> None:
        """From now on the run is busy."""
        self.began = True

    def watch(self, run: RunContext, todo: Todo) -> AbstractContextManager[object]:
        """Show what is to be done, and how it goes."""
        return self.terminal.watch(run, todo)

    def ended(self, ended: Ended) -> None:
        """Remember how it ended."""
        self.end = ended


def announce(plan: Plan, terminal: Terminal) -> None:
    """What was found, before anything is asked."""
    listing = plan.listing
    terminal.say(
        "Listed",
        f"{counted(len(listing.images), 'image')} ({size(listing.total_bytes)}) in {shortened(listing.source)}",
    )
    if listing.passed_over:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(listing.passed_over.items()))
        terminal.say("", f"passed over {kinds}")
    for notice in plan.notices:
        terminal.say("Note", notice)
    if plan.simulated:
        terminal.say("Note", f"{plan.endpoint.base_url} is the simulator: answers are simulated, nothing is spent.")


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
