"""Contestants in turns, and the table of what they took."""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copy

from tests.benchmark.contestants import Bench, Contestant, Task, Timed
from tests.benchmark.measuring import spread, table

CHECKED = 10  # images of the round that only checks rows
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


def compare(bench: Bench, task: Task, contestants: Mapping[str, Contestant], rounds: int) -> str:
    """The table. A round over a few images comes first, which checks everybody's rows and is not timed."""
    few = _few(bench, task)
    for contestant in contestants.values():
        contestant(bench, few)
    runs: dict[str, list[Timed]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            runs[name].append(contestants[name](bench, task))
    return table(HEADER, [_line(name, runs, task) for name in names])


def _line(name: str, runs: Mapping[str, list[Timed]], task: Task) -> list[str]:
    own = runs[name]

    def each(value: Callable[[Timed], float], digits: int = 1) -> str:
        return spread([value(run) for run in own], digits)

    server = [run.server_cpu_s * 1000 / task.count for run in own if run.server_cpu_s is not None]
    return [
        name,
        each(lambda run: run.calls_s, 2),
        *(_ratios(own, runs.get(floor, [])) for floor in FLOORS),
        each(lambda run: run.to_first_call_s),
        each(lambda run: run.process.wall_s),
        each(lambda run: run.process.cpu_s * 1000 / task.count),
        spread(server) if name == "visionflow" else "-",
        each(lambda run: run.process.peak_bytes / 1e6, 0),
        each(lambda run: run.ledger["peak_in_flight"], 0),
    ]


def _ratios(own: list[Timed], floor: list[Timed]) -> str:
    """Each round's time over the floor's in the same round: both met the same load of the machine."""
    return spread([run.calls_s / bare.calls_s for run, bare in zip(own, floor, strict=False)], 2)


def _few(bench: Bench, task: Task) -> Task:
    folder: Path = bench.fresh("few")
    for path in sorted(task.images.iterdir())[:CHECKED]:
        copy(path, folder)
    return Task(folder, min(CHECKED, task.count), task.in_flight, task.latency)
