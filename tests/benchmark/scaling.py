"""Many tiny images without latency: what an image costs when there are many, and what grows."""

from tests.benchmark.contestants import Bench, Task, run_visionflow
from tests.benchmark.images import make_tiny
from tests.benchmark.measuring import table

HEADER = (
    "tiny images",
    "ms/image",
    "CPU ms/image",
    "server ms/image",
    "peak MB",
    "Prefect's database",
    "again s",
    "again MB",
)
IN_FLIGHT = 50


def scale(bench: Bench, count: int) -> str:
    """The table of one size: asked once, then run again without a call."""
    place = bench.fresh(f"scale-{count}")
    images = make_tiny(place / "images", count)
    task = Task(images, count, IN_FLIGHT, latency=0.0)
    environment = {"PREFECT_API_URL": bench.prefect.url, "VISIONFLOW_HOME": str(place / "home")}
    before = bench.prefect.database_bytes
    cold = run_visionflow(bench, task, place / "output", environment)
    after = bench.prefect.database_bytes
    again = run_visionflow(bench, task, place / "output", environment, calls=0)
    server = "-" if cold.server_cpu_s is None else f"{cold.server_cpu_s * 1000 / count:.2f}"
    line = [
        f"{count:,}",
        f"{cold.calls_s * 1000 / count:.2f}",
        f"{cold.process.cpu_s * 1000 / count:.2f}",
        server,
        f"{cold.process.peak_bytes / 1e6:.0f}",
        f"{before / 1e6:.1f} to {after / 1e6:.1f} MB",
        f"{again.process.wall_s:.1f}",
        f"{again.process.peak_bytes / 1e6:.0f}",
    ]
    return table(HEADER, [line])
