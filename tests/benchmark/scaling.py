"""Many tiny images without latency: what an image costs, what grows, and what running again takes."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmark.comparing import check
from tests.benchmark.contestants import Bench, Task, Timed, run_visionflow
from tests.benchmark.images import make_tiny
from tests.benchmark.measuring import spread, table
from tests.benchmark.resuming import resumed_table, run_again

COSTS = ("ms/image", "CPU ms/image", "server ms/image", "to 1st call s", "peak MB")
HEADER = ("tiny images", *COSTS, "Prefect's database")
SIZES_HEADER = ("images a task run", *COSTS, "Prefect's database, kB/image")
IN_FLIGHT = 50
MORE = 100
BATCH_SIZES = (1, 5, 20, 100, 400)


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


def batch_sizes(bench: Bench, count: int, sizes: Sequence[int], rounds: int) -> str:
    """The table: the same images with each number of images a task run, in turns."""
    task = _tiny(bench, f"batches-{count}", count)
    runs: dict[int, list[Timed]] = {size: [] for size in sizes}
    grown: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            place, before = bench.place("batches"), bench.prefect.database_bytes
            program = ("tests.benchmark.inside", "--batch-size", size)
            run = run_visionflow(bench, task, place, place.with_server(bench.prefect.url), program=program)
            runs[size].append(run)
            grown[size].append((bench.prefect.database_bytes - before) / 1e3 / count)
    lines = [[str(size), *_cells(runs[size], count), spread(grown[size], 2)] for size in sizes]
    return f"{count:,} tiny images, no latency, {IN_FLIGHT} in flight\n{table(SIZES_HEADER, lines)}"


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
