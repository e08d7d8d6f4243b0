"""A finished run run again, and a run of which some images are new."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

from tests.benchmark.contestants import Bench, Task, Timed, run_visionflow
from tests.benchmark.images import make_photos
from tests.benchmark.measuring import table

HEADER = ("visionflow", "calls", "wall s", "CPU s", "server CPU s", "peak MB")
Adding = Callable[[Path], object]  # puts the new images into the folder


def resume(bench: Bench, task: Task, size: str) -> str:
    """The table: all images new, none new, one in ten new."""
    name = f"again-{task.images.name}-{task.latency}-{task.in_flight}"  # a bucket keeps what an earlier task added
    images = copytree(task.images, bench.fresh(name), dirs_exist_ok=True)
    more = max(1, task.count // 10)

    def add(folder: Path) -> None:
        make_photos(folder, more, size, start=task.count)

    return resumed_table(run_again(bench, Task(images, task.count, task.in_flight, task.latency), more, add))


def run_again(bench: Bench, task: Task, more: int, add: Adding) -> dict[str, Timed]:
    """Cold, again, and again with so many images more: exactly those are asked about.

    What is only there to be found again is made without any distance to the storage.
    """
    place = bench.place("resume")
    environment = place.with_server(bench.prefect.url)
    cold = run_visionflow(bench.near, task, place, environment)
    again = run_visionflow(bench, task, place, environment, calls=0)
    add(task.images)
    larger = Task(task.images, task.count + more, task.in_flight, task.latency)
    return {
        "cold": cold,
        "again": again,
        f"again, {more} more": run_visionflow(bench, larger, place, environment, calls=more),
    }


def resumed_table(runs: dict[str, Timed]) -> str:
    """A line for each run."""
    return table(HEADER, [[name, *cells(run)] for name, run in runs.items()])


def cells(run: Timed) -> list[str]:
    """As in HEADER."""
    process, server = run.process, run.services.get("prefect")
    return [
        str(run.ledger["billed"]),
        f"{process.wall_s:.1f}",
        f"{process.cpu_s:.1f}",
        "-" if server is None else f"{server:.1f}",
        f"{process.peak_bytes / 1e6:.0f}",
    ]
