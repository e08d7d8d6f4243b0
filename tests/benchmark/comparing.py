"""Contestants in turns, and the table of what they took."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from shutil import copy
from typing import TYPE_CHECKING

from tests.benchmark.contestants import CONTESTANTS, Bench, Task, Timed
from tests.benchmark.measuring import spread, table

if TYPE_CHECKING:
    from pathlib import Path

CHECKED = 10  # images of the round that only checks rows
POOL = min(32, (os.cpu_count() or 1) + 4)  # threads that asyncio.to_thread has
FLOORS = ("bare", "pillow")
HEADER = (
    "",
    "calls s",
    "x bare",
    "x Pillow",
    "to 1st call s",
    "wall s",
    "CPU ms/image",
    "server ms/image",
    "peak MB",
    "in flight",
)
SERVICES = {"simulator": "the simulator", "s3": "the S3 server"}


@dataclass(frozen=True)
class Compared:
    """What every contestant took in each round; `left_out` says of the others how long they would have taken."""

    task: Task
    runs: Mapping[str, list[Timed]]
    left_out: Mapping[str, float]

    @property
    def table(self) -> str:
        """A line for each contestant, and what the services cost beside them."""
        missing = [
            [f"{name} (left out: {seconds:.0f} s)", *"-" * (len(HEADER) - 1)] for name, seconds in self.left_out.items()
        ]
        lines = [self.line(name) for name in self.runs]
        return "\n".join([table(HEADER, [*lines, *missing]), *self._services()])

    def line(self, name: str) -> list[str]:
        """One contestant's cells, as in HEADER."""
        own, count = self.runs[name], self.task.count

        def each(value: Callable[[Timed], float], digits: int = 1) -> str:
            return spread([value(run) for run in own], digits)

        return [
            name,
            each(lambda run: run.calls_s, 2),
            *(_ratios(own, self.runs.get(floor, [])) for floor in FLOORS),
            each(lambda run: run.to_first_call_s),
            each(lambda run: run.process.wall_s),
            each(lambda run: run.process.cpu_s * 1000 / count),
            spread([run.services["prefect"] * 1000 / count for run in own if "prefect" in run.services]),
            each(lambda run: run.process.peak_bytes / 1e6, 0),
            each(lambda run: run.ledger["peak_in_flight"], 0),
        ]

    def _services(self) -> Iterator[str]:
        """What shares the machine with the contestants and is none of them."""
        runs = [run for own in self.runs.values() for run in own]
        for name, what in SERVICES.items():
            used = [run.services[name] * 1000 / self.task.count for run in runs if name in run.services]
            if used:
                yield f"Beside each of them {what} took {spread(used)} ms of CPU an image."


def compare(bench: Bench, task: Task, names: Sequence[str], rounds: int, *, patience_s: float) -> Compared:
    """Each contestant once a round; one that would need more than `patience_s` for its calls is left out."""
    slow = {name: seconds for name in names if (seconds := least_s(name, task)) > patience_s}
    runs: dict[str, list[Timed]] = {name: [] for name in names if name not in slow}
    order = list(runs)
    for turn in range(rounds):
        first = turn % max(1, len(order))
        for name in order[first:] + order[:first]:
            runs[name].append(CONTESTANTS[name](bench, task))
    return Compared(task, runs, slow)


def check(bench: Bench, task: Task, names: Sequence[str]) -> None:
    """Everybody answers a few of the images, untimed: BenchmarkError if rows or calls are not one an image."""
    folder: Path = bench.fresh(f"few-{task.images.name}")
    for path in sorted(path for path in task.images.rglob("*") if path.is_file())[:CHECKED]:
        copy(path, folder)
    few = Task(folder, min(CHECKED, task.count), task.in_flight, latency=0.0)
    for name in names:
        CONTESTANTS[name](bench, few)


def least_s(name: str, task: Task) -> float:
    """Seconds that the waiting alone takes."""
    return task.count * task.latency / (min(task.in_flight, POOL) if name == "threads" else task.in_flight)


def _ratios(own: list[Timed], floor: list[Timed]) -> str:
    """Each round's time over the floor's in the same round: both met the same load of the machine."""
    return spread([run.calls_s / bare.calls_s for run, bare in zip(own, floor, strict=False)], 2)


def summary(found: Mapping[str, Compared], name: str) -> str:
    """One contestant's line of each variant."""
    header = (f"{name}: size, latency, in flight", "images", *HEADER[1:])
    return table(header, [[variant, str(run.task.count), *run.line(name)[1:]] for variant, run in found.items()])
