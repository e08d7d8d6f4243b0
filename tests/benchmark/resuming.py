"""A finished run run again, and a run of which a tenth is new."""

from shutil import copytree

from tests.benchmark.contestants import Bench, Task, run_visionflow
from tests.benchmark.images import make_photos
from tests.benchmark.measuring import table

HEADER = ("visionflow", "calls", "wall s", "CPU s", "peak MB")


def resume(bench: Bench, task: Task) -> str:
    """The table: all images new, none new, one in ten new."""
    place = bench.fresh("resume")
    environment = {"PREFECT_API_URL": bench.prefect.url, "VISIONFLOW_HOME": str(place / "home")}
    images = copytree(task.images, place / "images")
    more = task.count // 10
    lines = []
    for name, count, calls in (
        ("cold", task.count, task.count),
        ("again", task.count, 0),
        (f"again, {more} more", task.count + more, more),
    ):
        if count > task.count:
            make_photos(images, more, "small", start=task.count)
        run = run_visionflow(
            bench, Task(images, count, task.in_flight, task.latency), place / "output", environment, calls=calls
        )
        process = run.process
        lines.append(
            [name, str(calls), f"{process.wall_s:.1f}", f"{process.cpu_s:.1f}", f"{process.peak_bytes / 1e6:.0f}"]
        )
    return table(HEADER, lines)
