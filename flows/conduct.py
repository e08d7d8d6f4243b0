"""Conducting a run from the command line: plan while Prefect's server comes up, then call the flow."""

import gc
import os
from dataclasses import dataclass
from typing import Any

from config.job import Job
from flows.server import Server, drop_unsent_events, healthy
from flows.terminal import Terminal, counted, shortened
from tasks.errors import StopRun
from tasks.planning import Plan, make_plan

# Ours say what a person needs; Prefect's own lines go to its API, for the UI, and not over the progress bars.
ENVIRONMENT = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",  # the flow's own lines; a task's would be too many
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # Each retry waits twice as long as the one before, from 2 s on: a server that is gone must not hold up the end.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Conducted:
    """A run that came to its end, and how."""

    summary: dict[str, Any]
    as_expected: bool = True


def conduct(source: str, output: str, job: Job, *, server: Server, terminal: Terminal) -> Conducted:
    """Plan, run and sum up; StopRun when the run could not start or had to stop."""
    with terminal.listing() as progress:
        plan = make_plan(source, output, job, progress)
    announce(plan, terminal)
    _import_prefect(server)
    terminal.waiting("Prefect's server", lambda: server.ready(terminal.note))
    from httpx import HTTPError
    from prefect.exceptions import CancelledRun

    from flows import opening
    from flows.analyze_images import analyze_images

    opening.plans[opening.plan_key(source, output, job)] = plan
    opening.watchers.append(terminal.watch)
    gc.freeze()  # modules stay for good: looking through them for garbage would take a sixth of the start
    gc.enable()
    try:
        analyze_images(source, output, job)
    except (StopRun, CancelledRun):
        if terminal.run is None or terminal.run.summary is None:
            raise  # before the first row
    except HTTPError:  # of Prefect's client, at the end of the run
        if terminal.run is None or terminal.run.summary is None or healthy(server.url):
            raise
        terminal.note("Prefect's server is gone: its UI lacks the end of this run. Results and bill are complete.")
        drop_unsent_events()
    finally:
        opening.watchers.remove(terminal.watch)
    assert terminal.run is not None
    assert terminal.run.summary is not None
    terminal.failures(terminal.run.failures)
    terminal.summary(terminal.run.summary)
    return Conducted(terminal.run.summary)


def announce(plan: Plan, terminal: Terminal) -> None:
    """What was found, before anything is asked."""
    listing = plan.listing
    terminal.say(
        "Listed",
        f"{counted(len(listing.images), 'image')} ({size(listing.total_bytes)}) in {shortened(listing.source)}",
    )
    if listing.passed_over:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(listing.passed_over.items()))
        terminal.say("", f"passed over what is no image: {kinds}")
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


def _import_prefect(server: Server) -> None:
    os.environ["PREFECT_API_URL"] = server.url
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import prefect  # noqa: F401
