"""`python -m tests.benchmark.batches`: the same images by Message Batch and online: time, memory, calls, the bill."""

import argparse
import os
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from tests.benchmark.contestants import KEY
from tests.benchmark.images import make_photos, make_tiny
from tests.benchmark.measuring import BenchmarkError, Measured, measure, table
from tests.benchmark.services import prefect_server, simulator

HEADER = ("asked", "images", "source MB", "s", "CPU ms/image", "peak MB", "calls", "batches", "in batches", "$")
LONGEST_S = 7200.0


def main() -> int:
    """Ask about the same images in both ways, each with a home of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.batches", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument("--size", choices=("tiny", "small", "large", "phone"), default="tiny")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that a batch takes (default: %(default)s)")
    parser.add_argument("--mode", action="append", choices=("batch", "online"), help="one of them, not both")
    options = parser.parse_args()
    for name in ("PREFECT_API_URL", "VISIONFLOW_KEEP_SERVER", "VISIONFLOW_HOME"):
        os.environ.pop(name, None)
    lines = []
    with tempfile.TemporaryDirectory(prefix="visionflow-batches-") as name:
        folder = Path(name)
        if options.size == "tiny":
            make_tiny(folder / "images", options.images)
        else:
            make_photos(folder / "images", options.images, options.size)
        size = sum(path.stat().st_size for path in (folder / "images").rglob("*.*")) / 1e6
        with simulator(folder, batch_latency=options.latency) as api, prefect_server(folder) as prefect:
            for mode in options.mode or ("batch", "online"):
                api.reset(latency=0.0)
                environment = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": KEY, "PREFECT_API_URL": prefect.url}
                environment["VISIONFLOW_HOME"] = str(folder / f"home-{mode}")
                run = _run(folder, mode, environment)
                ledger = api.ledger()
                if ledger["billed"] != options.images:
                    raise BenchmarkError(f"{ledger['billed']} answers were billed for {options.images} images")
                lines.append([mode, f"{options.images:,}", f"{size:,.0f}", *_cells(run, ledger, options.images)])
    print(table(HEADER, lines))
    return 0


def _run(folder: Path, mode: str, environment: dict[str, str]) -> Measured:
    command = ["-m", "flows", "run", folder / "images", "--output", folder / mode, "--mode", mode, "--name", "job"]
    command += ["--prompt", "One word.", "--preset", "ocr", "--no-progress"]
    run = measure(command, environment, folder / f"{mode}.log", seconds=LONGEST_S)
    if run.status:
        raise BenchmarkError((folder / f"{mode}.err").read_text(encoding="utf-8")[-2000:])
    return run


def _cells(run: Measured, ledger: dict[str, object], images: int) -> list[str]:
    counts = [f"{ledger[name]:,}" for name in ("requests", "batches", "batch_requests")]
    used = [f"{run.wall_s:.1f}", f"{run.cpu_s * 1000 / images:.2f}", f"{run.peak_bytes / 1e6:.0f}"]
    return [*used, *counts, f"{Decimal(str(ledger['cost_usd'])):f}"]


if __name__ == "__main__":
    sys.exit(main())
