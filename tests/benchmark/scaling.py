"""Many tiny images without latency: what an image costs, what grows, and what running again takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmark.comparing import check
from tests.benchmark.contestants import Bench, Task, Timed, run_visionflow
from tests.benchmark.images import make_tiny
from tests.benchmark.measuring import spread, table
from tests.benchmark.resuming import resumed_table, run_again

COSTS = ("ms/image", "CPU ms/image", "server ms/image", "to 1st call s", "peak MB")
HEADER = ("tiny images", *COSTS, "Prefect's database")
IN_FLIGHT = 50
MORE = 100
CHUNK_SIZES = (1, 5, 20, 100, 400)


def scale(bench: Bench, count: int) -> str:
    """The tables of one size: asked once, then run again without a call, then with 100 images more."""
    task = _tiny(bench, f"scale-{count}", count)
    database = [bench.prefect.database_bytes]

    def add(folder: Path) -> None:  # running again without a call has added next to nothing to the database
        database.append(bench.prefect.database_bytes)
        make_tiny(folder, MORE, start=count)

    runs = run_again(bench, task, MORE, add)
    before, after = (size / 1e6 for size in database)
    line = [f"{count:,}", *_cells([runs["cold"]], count), f"{before:.1f} to {after:.1f} MB"]
    return f"\n{table(HEADER, [line])}\n\n{resumed_table(runs)}"


def chunk_sizes(bench: Bench, count: int, sizes: Sequence[int], rounds: int) -> str:
    """The table: the same images with each number of images a task run, in turns."""
    forced = {size: {"program": ("tests.benchmark.inside", "--chunk-size", size)} for size in sizes}
    return _in_turns(bench, count, "images a task run", forced, rounds)


def _in_turns(bench: Bench, count: int, what: str, ways: Mapping[int, Mapping[str, Any]], rounds: int) -> str:
    """A line for each way of running it."""
    task = _tiny(bench, f"tiny-{count}", count)
    runs: dict[int, list[Timed]] = {way: [] for way in ways}
    grown: dict[int, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, how in ways.items():
            place, before = bench.place("turn"), bench.prefect.database_bytes
            runs[way].append(run_visionflow(bench, task, place, place.with_server(bench.prefect.url), **how))
            grown[way].append((bench.prefect.database_bytes - before) / 1e3 / count)
    lines = [[str(way), *_cells(runs[way], count), spread(grown[way], 2)] for way in ways]
    header = (what, *COSTS, "Prefect's database, kB/image")
    return f"{count:,} tiny images, no latency, {IN_FLIGHT} in flight\n{table(header, lines)}"


def _tiny(bench: Bench, name: str, count: int) -> Task:
    """The images; a few of them are asked about first, which checks their rows and warms the server up."""
    task = Task(make_tiny(bench.fresh(name), count), count, IN_FLIGHT, latency=0.0)
    check(bench, task, ["visionflow"])
    return task


def _cells(runs: Sequence[Timed], count: int) -> list[str]:
    """As in COSTS."""
    return [
        spread([run.calls_s * 1000 / count for run in runs], 2),
        spread([run.process.cpu_s * 1000 / count for run in runs], 2),
        spread([run.services["prefect"] * 1000 / count for run in runs if "prefect" in run.services], 2),
        spread([run.to_first_call_s for run in runs]),
        spread([run.process.peak_bytes / 1e6 for run in runs], 0),
    ]
