"""CPU of one run by step, and how late its event loop woke: a run of its own, which is not timed."""

import json
import os
from collections.abc import Iterator
from typing import Any

from tests.benchmark.contestants import Bench, Task, Timed, run_visionflow
from tests.benchmark.inside import CHILDREN, PREFECT
from tests.benchmark.measuring import table

HEADER = ("visionflow, from inside", "CPU s", "ms/image", "share")
OTHER = "other: threads of libraries, the interpreter's end"
LEAST_S = 0.005  # what took less is not shown by itself


def split(bench: Bench, task: Task) -> str:
    """The table, and a line each on Prefect, the cores and the loop."""
    place = bench.place("split")
    report = place.folder / "split.json"
    program = ("tests.benchmark.inside", "--split", report)
    run = run_visionflow(bench, task, place, place.with_server(bench.prefect.url), program=program)
    found = json.loads(report.read_text(encoding="utf-8"))
    steps = {name: seconds for name, seconds in found["steps"].items() if seconds >= LEAST_S}
    steps[OTHER] = run.process.cpu_s - sum(steps.values())
    lines = [_line(name, seconds, run, task) for name, seconds in _ordered(steps)]
    lines.append(_line("in all, as the system counts it", run.process.cpu_s, run, task))
    return "\n".join([table(HEADER, lines), _of_prefect(steps, run, task), *_of_cores(found), *_of_the_loop(found)])


def _ordered(steps: dict[str, float]) -> list[tuple[str, float]]:
    """As the work goes, and Prefect's together."""
    order = ("start", "list", "read", "prepare", "calls", "keep", "record", "report", PREFECT, "other")
    return sorted(steps.items(), key=lambda step: next(at for at, word in enumerate(order) if step[0].startswith(word)))


def _line(name: str, seconds: float, run: Timed, task: Task) -> list[str]:
    return [name, f"{seconds:.2f}", f"{seconds * 1000 / task.count:.2f}", f"{seconds / run.process.cpu_s:.0%}"]


def _of_prefect(steps: dict[str, float], run: Timed, task: Task) -> str:
    own = sum(seconds for name, seconds in steps.items() if name.startswith(PREFECT))
    server = run.services.get("prefect", 0.0) * 1000 / task.count
    return (
        f"Prefect: {own / run.process.cpu_s:.0%} of it, its start included; its server took {server:.2f} ms an image "
        "beside it."
    )


def _of_cores(found: dict[str, Any]) -> Iterator[str]:
    """Only where images were decoded: those that fit are no work."""
    if found["steps"][CHILDREN] >= LEAST_S and len(found["preparing"]) > 1:
        (begin, before), (end, after) = found["preparing"]
        busy = (found["steps"][CHILDREN] + after - before) / (end - begin)
        yield (
            f"While images were prepared ({end - begin:.1f} s) {busy:.1f} of {os.cpu_count()} cores were busy with "
            "this process and its children; the services took some of the rest."
        )


def _of_the_loop(found: dict[str, Any]) -> Iterator[str]:
    if lag := found["lag_ms"]:
        yield (
            f"Sleeps of 10 ms on the event loop of the calls ended late by {lag['p50']:.1f} ms (median), "
            f"{lag['p99']:.1f} ms (99 of 100), {lag['max']:.1f} ms (most); {lag['ticks']:.0f} sleeps."
        )
