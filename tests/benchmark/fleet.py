"""`python -m tests.benchmark.fleet`: one run over the workers of a pool, against one process, and what deaths cost.

Process workers are started in folders of their own, each with a home of its own; with `--wheel` they have only what is
in the wheel. Images and output lie in a folder that they share, or with `--s3` on a local S3 server; Prefect's database
is a file, or with `--postgres` Postgres. With `--kill` a worker and all that it started are killed at a third of the
calls; with `--away S` Prefect's server is stopped at a half for so many seconds; with `--kill-parent` the command is
killed at a sixth and given again. The account is the simulator's ledger against what the run has left.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmark.accounts import fleet_account
from tests.benchmark.contestants import KEY
from tests.benchmark.images import make_tiny
from tests.benchmark.machines import Counted, counted, installed_wheel, kill_all, prefect_database, processes
from tests.benchmark.services import ROOT, PrefectServer, Simulator, prefect_server, simulator

POOL = "fleet"
LOOK_S = 0.05


@dataclass
class Scene:
    """Where a fleet is run."""

    folder: Path
    api: Simulator
    prefect: PrefectServer
    source: str
    output: str
    prefect_url: str
    wheel: Path | None = None
    requests: dict[str, Counted] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, home: str) -> dict[str, str]:
        """Of one machine."""
        (self.folder / home / "prefect").mkdir(parents=True, exist_ok=True)
        code = {"PYTHONPATH": str(self.wheel)} if self.wheel and home != "parent" else {"PYTHONPATH": str(ROOT)}
        return {
            **os.environ,
            **code,
            "ANTHROPIC_BASE_URL": self.api.url,
            "ANTHROPIC_API_KEY": KEY,
            "PREFECT_API_URL": self.prefect_url,
            "PREFECT_HOME": str(self.folder / home / "prefect"),
            "VISIONFLOW_HOME": str(self.folder / home / "visionflow"),
        }

    def start_worker(self, number: int) -> None:
        """A worker in a folder of its own, which may be killed with all its children."""
        place = self.folder / f"worker-{number}"
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", f"worker-{number}"]
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            self.workers.append(
                subprocess.Popen(
                    command,
                    cwd=place,
                    env=self.environment(place.name),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
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
def scene(
    folder: Path,
    images: int,
    latency: float,
    *,
    s3: bool,
    workers: int,
    postgres: bool = False,
    wheel: bool = False,
    count: bool = False,
) -> Iterator[Scene]:
    """Everything but the run; all that it started is ended."""
    with ExitStack() as stack:
        api = stack.enter_context(simulator(folder, latency=latency))
        if postgres:
            stack.enter_context(prefect_database(folder / "postgres"))
        server = stack.enter_context(prefect_server(folder))
        local = make_tiny(folder / "images", images)
        made = Scene(folder, api, server, str(local), str(folder / "output"), server.url)
        if s3:
            _on_s3(stack, made, local, count=count)
        if count:
            made.requests["Prefect API calls"] = calls = stack.enter_context(counted(server.url))
            made.prefect_url = f"{calls.url}/api"
        made.wheel = installed_wheel(folder) if wheel else None
        command = [sys.executable, "-m", "prefect", "work-pool", "create", POOL, "--type", "process"]
        subprocess.run(command, env=made.environment("parent"), check=True, stdout=subprocess.DEVNULL)
        for number in range(workers):
            made.start_worker(number)
        stack.callback(made.end)
        until_online(made, workers)
        for requests in made.requests.values():
            requests.methods.clear()
        yield made


def _on_s3(stack: ExitStack, made: Scene, local: Path, *, count: bool) -> None:
    from tests.s3 import serve_s3

    place = made.folder / "s3"
    place.mkdir()
    server = stack.enter_context(serve_s3(place))
    os.environ.update(server.env)
    import s3fs

    s3fs.S3FileSystem().put(str(local), f"{server.bucket}/images", recursive=True)
    if count:
        made.requests["S3 requests"] = requests = stack.enter_context(counted(server.endpoint))
        os.environ["AWS_ENDPOINT_URL"] = requests.url
    made.source, made.output = f"s3://{server.bucket}/images", f"s3://{server.bucket}/output"


def until_online(made: Scene, workers: int) -> None:
    """Wait for the workers' first heartbeat."""
    from httpx import post

    until = time.monotonic() + 180
    while time.monotonic() < until:
        found = post(f"{made.prefect.url}/work_pools/{POOL}/workers/filter", json={}, timeout=30).json()
        if sum(worker["status"] == "ONLINE" for worker in found) >= workers:
            return
        time.sleep(0.3)
    raise RuntimeError("no worker is online: see worker-0.log")


def run(made: Scene, options: argparse.Namespace) -> dict[str, Any]:
    """One run, with what is to happen to it; its account."""
    fleet = ["--pool", POOL, "--shards", str(options.shards)] if options.shards else []
    command = ["--concurrency", str(options.concurrency), *fleet, *options.more]
    process, began = made.start_run(*command), time.monotonic()
    killed, at, away = 0, 0.0, None
    parent = getattr(options, "kill_parent", False)
    while process.poll() is None:
        billed = made.api.ledger()["billed"] / options.images
        if parent and billed >= 1 / 6:
            kill_all(process.pid)
            process.communicate()
            process, parent = made.start_run(*command), False
        if options.kill and not killed and billed >= 1 / 3:
            busiest = max(made.workers, key=lambda worker: len(processes(worker.pid)))  # one may have taken all shards
            at, killed = time.time(), kill_all(busiest.pid)
        if getattr(options, "away", 0) and away is None and billed >= 1 / 2:
            away = threading.Thread(target=made.prefect.away, args=(options.away,))
            away.start()
        time.sleep(LOOK_S)
    out, _ = process.communicate()
    if away is not None:
        away.join()
    if not out.strip():
        raise RuntimeError((made.folder / "run.log").read_text()[-2000:])
    seconds = time.monotonic() - began
    account = fleet_account(made.api.ledger(entries=True), made.output, json.loads(out.splitlines()[-1]), at)
    account |= {"processes killed": killed, "command s": round(seconds, 1)}
    return account | {name: requests.an_image(options.images) for name, requests in made.requests.items()}


def main() -> int:
    """Run, and print the account."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.fleet", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--shards", type=int, default=2, help="0: one process, without a pool")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true", help="kill a worker and its children at a third")
    parser.add_argument("--kill-parent", action="store_true", help="kill the command at a sixth, and give it again")
    parser.add_argument("--away", type=float, default=0, metavar="S", help="stop Prefect's server at a half, so long")
    parser.add_argument("--s3", action="store_true", help="images and output on a local S3 server")
    parser.add_argument("--postgres", action="store_true", help="Prefect's database in Postgres, which is installed")
    parser.add_argument("--wheel", action="store_true", help="the workers have the wheel, and nothing of the clone")
    parser.add_argument("--count", action="store_true", help="count S3 requests and Prefect API calls")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    parser.add_argument("more", nargs="*", help="options of the run, after --")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="visionflow-fleet-"))
    around = {name: getattr(options, name) for name in ("s3", "workers", "postgres", "wheel", "count")}
    try:
        with scene(folder, options.images, options.latency, **around) as made:
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
