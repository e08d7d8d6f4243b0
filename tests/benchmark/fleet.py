"""`python -m tests.benchmark.fleet`: one run over the workers of a pool, against one process, and what a kill costs.

Two process workers are started in folders of their own, each with a home of its own; images and output lie in a folder
that they share, or with `--s3` on a local S3 server. With `--kill` a worker and all that it started are killed at a
third of the calls. The account is the simulator's ledger against what the run has left.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tests.benchmark.contestants import KEY
from tests.benchmark.images import make_tiny
from tests.benchmark.services import ROOT, PrefectServer, Simulator, prefect_server, simulator

POOL = "fleet"
LOOK_S = 0.05


@dataclass(frozen=True)
class Scene:
    """Where a fleet is run."""

    folder: Path
    api: Simulator
    prefect: PrefectServer
    source: str
    output: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, home: str) -> dict[str, str]:
        """Of one machine."""
        (self.folder / home / "prefect").mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "ANTHROPIC_BASE_URL": self.api.url,
            "ANTHROPIC_API_KEY": KEY,
            "PREFECT_API_URL": self.prefect.url,
            "PREFECT_HOME": str(self.folder / home / "prefect"),
            "VISIONFLOW_HOME": str(self.folder / home / "visionflow"),
        }

    def start_worker(self, number: int) -> None:
        """A worker in a folder of its own, which may be killed with all its children."""
        place = self.folder / f"worker-{number}"
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", f"worker-{number}"]
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            environment = {**self.environment(place.name), "PREFECT_WORKER_QUERY_SECONDS": "1"}
            self.workers.append(
                subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True)
            )

    def end(self) -> None:
        """Nothing is left of any worker."""
        for worker in self.workers:
            kill_all(worker.pid)

    def start_run(self, *options: str) -> subprocess.Popen[str]:
        """`visionflow run` over the images."""
        command = [sys.executable, "-m", "flows", "run", self.source, "--output", self.output, "--json"]
        return subprocess.Popen(
            [*command, "--no-progress", "--prompt", "One word.", *options],
            cwd=ROOT,
            env=self.environment("parent"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "run.log").open("ab"),
            text=True,
        )


@contextmanager
def scene(folder: Path, images: int, latency: float, *, s3: bool, workers: int) -> Iterator[Scene]:
    """Everything but the run; all that it started is ended."""
    with ExitStack() as stack:
        api = stack.enter_context(simulator(folder, latency=latency))
        prefect = stack.enter_context(prefect_server(folder))
        local = make_tiny(folder / "images", images)
        source, output = str(local), str(folder / "output")
        if s3:
            source, output = _on_s3(stack, folder, local)
        made = Scene(folder, api, prefect, source, output)
        command = [sys.executable, "-m", "prefect", "work-pool", "create", POOL, "--type", "process"]
        subprocess.run(command, env=made.environment("parent"), check=True, stdout=subprocess.DEVNULL)
        for number in range(workers):
            made.start_worker(number)
        stack.callback(made.end)
        until_online(made, workers)
        yield made


def _on_s3(stack: ExitStack, folder: Path, local: Path) -> tuple[str, str]:
    from tests.s3 import serve_s3

    place = folder / "s3"
    place.mkdir()
    server = stack.enter_context(serve_s3(place))
    os.environ.update(server.env)
    import s3fs

    s3fs.S3FileSystem().put(str(local), f"{server.bucket}/images", recursive=True)
    return f"s3://{server.bucket}/images", f"s3://{server.bucket}/output"


def until_online(made: Scene, workers: int) -> None:
    """Wait for the workers' first heartbeat."""
    from httpx import post

    until = time.monotonic() + 90
    while time.monotonic() < until:
        found = post(f"{made.prefect.url}/work_pools/{POOL}/workers/filter", json={}, timeout=30).json()
        if sum(worker["status"] == "ONLINE" for worker in found) >= workers:
            return
        time.sleep(0.3)
    raise RuntimeError("no worker is online: see worker-0.log")


def kill_all(process: int) -> int:
    """Kill a process and all below it, as when the machine is switched off; how many there were."""
    below = processes(process)
    for one in below:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return len(below)


def processes(process: int) -> list[int]:
    """The process and all below it."""
    below = [process]
    for parent in below:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                below.append(int(path.parent.name))
    return below


def account(made: Scene, summary: dict[str, Any], images: int) -> dict[str, Any]:
    """What the ledger and the tables say."""
    from flows import read_calls, read_results

    ledger = made.api.ledger(entries=True)
    rows = read_results(made.output, run=summary["run_id"], as_arrow=True)
    calls = read_calls(made.output, run=summary["run_id"], as_arrow=True)
    billed = [entry for entry in ledger["entries"] if entry["billed"]]
    received = set(calls["request_id"].to_pylist())
    lost = [entry for entry in billed if entry["request_id"] not in received]
    paid = pc.sum(calls["cost_usd"]).as_py()
    return {
        "status": summary["status"],
        "rows": rows.num_rows,
        "images with a row": len(set(rows["image"].to_pylist())),
        "images": images,
        "billed": len(billed),
        "asked twice": len(billed) - len({entry["images"][0] for entry in billed}),
        "answers lost": len(lost),
        "maybe": sum(value == "maybe" for value in calls["paid"].to_pylist()),
        "ledger": str(sum((_usd(entry) for entry in billed), start=_usd({"cost_usd": "0"}))),
        "calls": str(paid + sum((_usd(entry) for entry in lost), start=_usd({"cost_usd": "0"}))),
        "summary": summary["cost_usd"],
        "peak in flight": ledger["peak_in_flight"],
        "seconds": summary["seconds"],
        "images/s": round(images / summary["seconds"], 1),
    }


def _usd(entry: dict[str, Any]) -> Any:
    from decimal import Decimal

    return Decimal(entry["cost_usd"])


def run(made: Scene, options: argparse.Namespace) -> dict[str, Any]:
    """One run, a worker killed at a third of it where asked; its account."""
    fleet = ["--pool", POOL, "--shards", str(options.shards)] if options.shards else []
    process = made.start_run("--concurrency", str(options.concurrency), *fleet, *options.more)
    killed = 0
    while process.poll() is None:
        if options.kill and not killed and made.api.ledger()["billed"] >= options.images / 3:
            busiest = max(made.workers, key=lambda worker: len(processes(worker.pid)))  # one may have taken all shards
            killed = kill_all(busiest.pid)
        time.sleep(LOOK_S)
    out, _ = process.communicate()
    if not out.strip():
        raise RuntimeError((made.folder / "run.log").read_text()[-2000:])
    return {**account(made, json.loads(out.splitlines()[-1]), options.images), "processes killed": killed}


def main() -> int:
    """Run, and print the account."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.fleet", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--shards", type=int, default=2, help="0: one process, without a pool")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true", help="kill a worker and its children at a third")
    parser.add_argument("--s3", action="store_true", help="images and output on a local S3 server")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    parser.add_argument("more", nargs="*", help="options of the run, after --")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="visionflow-fleet-"))
    try:
        with scene(folder, options.images, options.latency, s3=options.s3, workers=options.workers) as made:
            for name, value in run(made, options).items():
                print(f"{name:<18} {value}")
    finally:
        if options.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
