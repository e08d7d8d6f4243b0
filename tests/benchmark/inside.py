"""`python -m tests.benchmark.inside [--split FILE] [--chunk-size N] run ...`: `visionflow run`, looked at from inside.

--split       writes down CPU by step and how late the event loop woke. The clocks cost a little themselves, and
              everything is imported before they are set: a run with them is never one whose time is reported.
--chunk-size  so many images a task run, instead of what the run would choose
"""

import argparse
import atexit
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmark.clocks import Clocks, Lag, Steps

PREFECT = "Prefect: "
SUBMITTING = PREFECT + "the flow's thread, which submits task runs"
TASK_RUNS = PREFECT + "task runs' threads"
SERVICES = PREFECT + "events, logs, states"
STORING = "read and keep: storage's threads"
CHILDREN = "prepare, in child processes"
CALLS = "calls (the engine's thread)"
# By the beginning of the thread's name.
THREADS = {
    "MainThread": SUBMITTING,
    "ThreadPoolExecutor": TASK_RUNS,
    "visionflow-engine": CALLS,
    "fsspecIO": STORING,
    "AnyIO worker thread": STORING,
}
# Where a step's name is looked up when it is called.
STEPS = (
    ("flows.cli.conduct:make_plan", "start: the plan, endpoint and model checked"),
    ("tasks.planning.plan:list_images", "list"),
    ("flows.analyze_images:list_images", "list"),
    ("tasks.preparing.threads:read_whole", "read"),
    ("tasks.preparing.threads:prepare_image", "prepare, in the process"),
    ("tasks.orchestration.store:PrefectStore.put", "keep answers (Prefect's result store)"),
    ("tasks.orchestration.store:PrefectStore.get", "keep answers (Prefect's result store)"),
    ("tasks.orchestration.steps:answered_row", "record"),
    ("tasks.orchestration.recorder:Recorder.record", "record"),
    ("tasks.recording.writer:TableWriter.close", "record"),
    ("tasks.orchestration.recorder:Recorder.finish", "report"),
    ("tasks.orchestration.steps:write_report", "report"),
)


Function = Callable[..., Any]
Moment = Callable[[], None]


class Inside:
    """The clocks of this process, from before anything is imported to after everything has ended."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._clocks = Clocks()
        self._lag = Lag()
        self._steps = Steps()
        self._preparing: list[tuple[float, float]] = []  # wall clock and CPU of this process, first and last
        atexit.register(self._write)  # first in, last out: decoding children are ended and counted by then

    def install(self) -> None:
        """Import everything, and put a clock around each step."""
        from flows.cli.server import CLIENT_ENVIRONMENT

        os.environ.update({name: value for name, value in CLIENT_ENVIRONMENT.items() if name not in os.environ})
        ours = time.process_time()
        import_module("flows.analyze_images")
        self._steps["start: our imports"] = ours
        self._steps[PREFECT + "start, its import"] = time.process_time() - ours
        for target, step in STEPS:
            _wrap(target, partial(self._clocks.timed, step))
        _wrap("flows.analyze_images:open_run", partial(_noted, before=self._flow_starts))
        _wrap("tasks.preparing.threads:prepare_image", partial(_noted, before=self._prepares, after=self._prepares))
        _wrap("tasks.asking.engine:make_client", partial(_noted, after=self._loop_runs))

    def _flow_starts(self) -> None:
        self._steps.add(self._clocks.start())
        self._steps[PREFECT + "start, making the flow run"] = time.process_time() - sum(self._steps.values())

    def _loop_runs(self) -> None:
        import asyncio

        self._lag.watch(asyncio.get_running_loop())

    def _prepares(self) -> None:
        self._preparing[1:] = [(time.monotonic(), time.process_time())]

    def _write(self) -> None:
        steps = self._steps
        steps.add(self._clocks.steps())
        threads = self._clocks.threads()
        for name, cpu_s in threads:
            steps[next((step for begin, step in THREADS.items() if name.startswith(begin)), SERVICES)] += cpu_s
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        steps[CHILDREN] = children.ru_utime + children.ru_stime
        found = {"steps": steps, "lag_ms": self._lag.summary(), "preparing": self._preparing, "threads": threads}
        self._report.write_text(json.dumps(found), encoding="utf-8")


def _nothing() -> None: ...


def force_chunk_size(size: int) -> None:
    """Every run has so many images a chunk, but for its first few, which grow to that size."""
    for module in ("tasks.orchestration.chunks", "tasks.orchestration.window"):
        _wrap(f"{module}:chunk_size", lambda _: lambda images: size)


def _noted(function: Function, *, before: Moment = _nothing, after: Moment = _nothing) -> Function:
    """The function, with something done right before or after it."""

    def noted(*args: Any, **options: Any) -> Any:
        before()
        result = function(*args, **options)
        after()
        return result

    return noted


def _wrap(target: str, wrapper: Callable[[Any], Any]) -> None:
    """Put `wrapper(what was there)` in its place; AttributeError if there is nothing of that name any more."""
    module, _, path = target.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, wrapper(getattr(owner, name)))


def main() -> int:
    """The exit status of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.inside", description=__doc__)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    gc.disable()  # as `visionflow run` does while it imports
    if options.split:
        Inside(options.split).install()
    if options.chunk_size:
        force_chunk_size(options.chunk_size)
    from flows.__main__ import main as visionflow

    return visionflow(options.command)


if __name__ == "__main__":
    sys.exit(main())
