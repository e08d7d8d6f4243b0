"""`python -m tests.benchmark`: visionflow beside the bare SDK, on this machine, in turns on the same images."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import product
from pathlib import Path

from tests.benchmark.comparing import compare
from tests.benchmark.contestants import CONTESTANTS, Bench, Task
from tests.benchmark.images import SIZES, make_photos, total_bytes
from tests.benchmark.measuring import BenchmarkError
from tests.benchmark.resuming import resume
from tests.benchmark.scaling import scale
from tests.benchmark.services import prefect_server, simulator

FULL = [*product(["small"], [0.05, 0.3, 2.0], [10, 50, 200]), ("large", 0.3, 50), ("phone", 0.3, 50)]
LARGE_SHARE = 5  # so many times fewer images where each is large


def main() -> int:
    """Run what the options say; exit status 1 if a contestant fails or its rows are wrong."""
    options = _parser().parse_args()
    for name in ("PREFECT_API_URL", "VISIONFLOW_KEEP_SERVER", "VISIONFLOW_HOME"):
        os.environ.pop(name, None)
    print(machine())
    try:
        with tempfile.TemporaryDirectory(prefix="visionflow-benchmark-") as folder, benches(Path(folder)) as bench:
            if options.scale:
                for count in options.scale:
                    print(scale(bench, count), flush=True)
            elif options.full:
                for size, latency, in_flight in FULL:
                    images = options.images if size == "small" else options.images // LARGE_SHARE
                    _compare(bench, options, size, Task(bench.folder, images, in_flight, latency))
            else:
                _compare(
                    bench, options, options.size, Task(bench.folder, options.images, options.in_flight, options.latency)
                )
    except BenchmarkError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def benches(folder: Path) -> Iterator[Bench]:
    """A simulator and a Prefect server for as long as the benchmark takes."""
    print("Starting Prefect's server on a new home ...", flush=True)
    with simulator(folder) as api, prefect_server(folder) as prefect:
        yield Bench(folder, api, prefect)


def machine() -> str:
    """Where this was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("anthropic", "prefect", "pillow", "pyarrow"))
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}, {versions}"


def _compare(bench: Bench, options: argparse.Namespace, size: str, task: Task) -> None:
    photos = bench.folder / f"{size}-{task.count}"
    if not photos.exists():
        print(f"Making {task.count} images of {SIZES[size][0]} x {SIZES[size][1]} ...", flush=True)
        make_photos(photos, task.count, size)
    mean = total_bytes(list(photos.iterdir())) / task.count
    task = Task(photos, task.count, task.in_flight, task.latency)
    limit = task.count * task.latency / task.in_flight
    print(
        f"\n{task.count} images, {size}, {mean / 1000:,.0f} kB each; latency {task.latency} s, {task.in_flight} in "
        f"flight: no faster than {limit:.1f} s"
    )
    chosen = {name: CONTESTANTS[name] for name in options.only or CONTESTANTS}
    print(compare(bench, task, chosen, options.rounds), flush=True)
    if "visionflow" in chosen:
        print(resume(bench, task), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument("--images", type=int, default=400, help="images of each run (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds to an answer (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=50, help="calls at once (default: %(default)s)")
    parser.add_argument("--size", choices=SIZES, default="small", help="1200x900, 3000x2200 or 4000x3000")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="this contestant alone (repeatable)")
    parser.add_argument("--full", action="store_true", help="every latency, number in flight and size: an hour")
    parser.add_argument(
        "--scale", type=int, action="append", metavar="N", help="N tiny images, no latency (repeatable)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
