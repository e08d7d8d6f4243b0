"""`python -m tests.benchmark`: visionflow beside the bare SDK, on this machine, in turns on the same images."""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.benchmark.comparing import check, compare, summary
from tests.benchmark.contestants import CONTESTANTS, Bench, Task
from tests.benchmark.images import SIZES, make_photos, total_bytes
from tests.benchmark.measuring import BenchmarkError
from tests.benchmark.resuming import resume
from tests.benchmark.scaling import CHUNK_SIZES, chunk_sizes, scale
from tests.benchmark.services import prefect_server, simulator
from tests.benchmark.splitting import split
from tests.benchmark.storage import Disk, bucket
from tests.benchmark.variants import PATIENCE_S, Variant, full

IMAGES, CHUNKED, ASKED_BY_SEVERAL, ROUNDS = 400, 2000, 10_000, 3
LOOKED_INTO = "visionflow"


def main() -> int:
    """Run what the options say; exit status 1 if a contestant fails or its rows are wrong."""
    options = _parser().parse_args()
    for name in ("PREFECT_API_URL", "VISIONFLOW_KEEP_SERVER", "VISIONFLOW_HOME"):
        os.environ.pop(name, None)
    # As after an installation: the untimed runs that check rows leave compiled whatever the timed ones import.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(machine())
    try:
        with tempfile.TemporaryDirectory(prefix="visionflow-benchmark-") as folder:
            _run(Path(folder), options)
    except BenchmarkError as error:
        print(f"Stopped: {error}", file=sys.stderr)
        return 1
    return 0


def _run(folder: Path, options: argparse.Namespace) -> None:
    variants = full(options.images) if options.full else [_chosen(options)]
    many = options.scale or options.chunk_sizes is not None
    wanted = any(variant.s3 for variant in variants) and options.chunk_sizes is None
    with benches(folder, s3_latency=options.s3_latency if wanted else None) as (disk, s3):
        for count in options.scale or ():
            print(scale(s3, count), flush=True)
        if options.chunk_sizes is not None:
            sizes = options.chunk_sizes or CHUNK_SIZES
            print(chunk_sizes(disk, options.images or CHUNKED, sizes, options.rounds or 1), flush=True)
        if not many:
            _compare_all(disk, s3, variants, options)


@contextmanager
def benches(folder: Path, *, s3_latency: float | None) -> Iterator[tuple[Bench, Bench]]:
    """A simulator and a Prefect server, with everything on disk; and the same with an S3 server, if one is wanted."""
    print("Starting Prefect's server on a new home ...", flush=True)
    with ExitStack() as stack:
        api = stack.enter_context(simulator(folder))
        prefect = stack.enter_context(prefect_server(folder))
        disk = Bench(folder, api, prefect, Disk())
        if s3_latency is None:
            yield disk, disk
        else:
            s3 = stack.enter_context(bucket(folder / "s3", s3_latency))
            yield disk, Bench(folder, api, prefect, s3)


def machine() -> str:
    """Where this was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("anthropic", "prefect", "pillow", "pyarrow"))
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}, {versions}"


def _compare_all(disk: Bench, s3: Bench, variants: Sequence[Variant], options: argparse.Namespace) -> None:
    names = options.only or list(CONTESTANTS)
    rounds = 1 if options.full else options.rounds or ROUNDS
    patience_s = PATIENCE_S if options.full else float("inf")
    checked, found = set(), {}
    for variant in variants:
        bench = s3 if variant.s3 else disk
        task = _task(disk.folder, variant)
        if (variant.size, variant.s3) not in checked:  # the timed runs are checked as well, each time
            check(bench, task, names)
            checked.add((variant.size, variant.s3))
        print(_title(variant, task), flush=True)
        compared = compare(bench, task, names, rounds, patience_s=patience_s)
        print(compared.table, flush=True)
        if LOOKED_INTO in names:
            found[variant.name] = compared
            _look_into(bench, variant, task)
    if len(found) > 1:
        print(f"\n{summary(found, LOOKED_INTO)}")


def _look_into(bench: Bench, variant: Variant, task: Task) -> None:
    print(f"\n{resume(bench, task, variant.size)}", flush=True)
    if variant.inside:
        print(f"\n{split(bench, task)}", flush=True)


def _task(folder: Path, variant: Variant) -> Task:
    """The variant's images, made if they are not there yet."""
    photos = folder / f"{variant.size}-{variant.images}"
    if not photos.exists():
        width, height = SIZES[variant.size]
        print(f"Making {variant.images} images of {width} x {height} ...", flush=True)
        make_photos(photos, variant.images, variant.size)
    return Task(photos, variant.images, variant.in_flight, variant.latency)


def _title(variant: Variant, task: Task) -> str:
    mean = total_bytes(list(task.images.iterdir())) / task.count / 1000
    limit = task.count * task.latency / task.in_flight
    return (
        f"\n{task.count} images, {variant.size}, {mean:,.0f} kB each{', on S3' if variant.s3 else ''}; latency "
        f"{task.latency:g} s, {task.in_flight} in flight: no faster than {limit:.1f} s"
    )


def _chosen(options: argparse.Namespace) -> Variant:
    images = options.images or IMAGES
    return Variant(options.size, options.latency, options.in_flight, images, s3=options.storage == "s3", inside=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__)
    parser.add_argument(
        "--images",
        type=int,
        help=f"images of each run (default: {IMAGES}, with --chunk-sizes {CHUNKED}); with --full at most so many",
    )
    parser.add_argument("--latency", type=float, default=0.3, help="seconds to an answer (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=50, help="calls at once (default: %(default)s)")
    parser.add_argument("--size", choices=SIZES, default="small", help="1200x900, 3000x2200 or 4032x3024")
    parser.add_argument("--storage", choices=("local", "s3"), default="local", help="of images and output")
    parser.add_argument("--s3-latency", type=float, default=0.0, help="seconds to the S3 server (default: none)")
    parser.add_argument(
        "--rounds", type=int, help=f"turns of each contestant (default: {ROUNDS}, with --chunk-sizes 1)"
    )
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="this contestant alone (repeatable)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--full", action="store_true", help="every latency, number in flight and size, and S3, one round: half an hour"
    )
    what.add_argument(
        "--scale",
        type=int,
        action="append",
        metavar="N",
        help="N tiny images; again; 100 more (repeatable)",
    )
    what.add_argument(
        "--chunk-sizes",
        type=int,
        nargs="*",
        metavar="N",
        help=f"tiny images with N a task run (default: {' '.join(map(str, CHUNK_SIZES))})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
