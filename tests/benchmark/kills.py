"""`python -m tests.benchmark.kills`: one run, killed again and again without warning, and what was paid for twice."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.accounts import Account, Kill, account
from tests.benchmark.contestants import KEY
from tests.benchmark.images import make_tiny
from tests.benchmark.measuring import table
from tests.benchmark.services import ROOT, PrefectServer, Simulator, prefect_server, simulator

BLIND = 0.2  # share of kills at a moment by the clock, which may be before the first call or after the last
BLIND_S = 6.0
LOOK_S = 0.003
PATIENCE_S = 180.0


@dataclass(frozen=True)
class Scene:
    """What is run again after every kill."""

    folder: Path
    simulator: Simulator
    prefect: PrefectServer
    in_flight: int
    options: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """Where the run writes."""
        return self.folder / "output"

    def start(self) -> subprocess.Popen[bytes]:
        """`visionflow run`, always the same."""
        command = [sys.executable, "-m", "flows", "run", str(self.folder / "images"), "--output", str(self.output)]
        command += ["--concurrency", str(self.in_flight), "--prompt", "One word.", "--name", "killed", "--no-progress"]
        command += self.options
        environment = {
            **os.environ,
            "ANTHROPIC_BASE_URL": self.simulator.url,
            "ANTHROPIC_API_KEY": KEY,
            "PREFECT_API_URL": self.prefect.url,
            "VISIONFLOW_HOME": str(self.folder / "home"),
        }
        log = (self.folder / "run.log").open("ab")
        with log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def main() -> int:
    """Kill as often as asked, run to the end, and print the account; exit status 1 if it does not balance."""
    options = _parser().parse_args()
    for name in ("PREFECT_API_URL", "VISIONFLOW_KEEP_SERVER", "VISIONFLOW_HOME"):
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="visionflow-kills-"))
    try:
        make_tiny(folder / "images", options.images)
        with simulator(folder, latency=options.latency) as api, prefect_server(folder) as prefect:
            scene = Scene(folder, api, prefect, options.in_flight)
            kills = kill_again_and_again(scene, options.images, options.kills, random.Random(options.seed))
            result = account(api.ledger(entries=True)["entries"], scene.output, kills, options.images)
    finally:
        if options.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(report(result, kills, options.in_flight))
    return 0 if result.balanced else 1


def kill_again_and_again(scene: Scene, images: int, most: int, chance: random.Random) -> list[Kill]:
    """SIGKILL at random moments of one run, which is then left to end."""
    by_count = sorted((chance.randrange(images) for _ in range(most)), reverse=True)
    kills: list[Kill] = []
    while by_count:
        target = by_count.pop()
        process, started = scene.start(), time.time()
        moment = started + chance.uniform(0, BLIND_S) if chance.random() < BLIND else None
        if not _until(scene, process, target, moment):
            break  # it came to its end before its moment
        process.send_signal(signal.SIGKILL)
        at = time.time()
        process.wait()
        kills.append(Kill(number=len(kills) + 1, started=started, at=at, by_clock=moment is not None))
        print(f"kill {len(kills)} of {most}, {at - started:.1f} s after the start", flush=True)
    process = scene.start()
    if process.wait(timeout=PATIENCE_S):
        raise SystemExit(f"The last run ended with {process.returncode}: see {scene.folder}/run.log")
    return kills


def _until(scene: Scene, process: subprocess.Popen[bytes], target: int, moment: float | None) -> bool:
    """Wait for the moment, or for so many answers in all; False if the run ends before."""
    until = time.time() + PATIENCE_S
    while process.poll() is None and time.time() < until:
        reached = time.time() >= moment if moment is not None else scene.simulator.ledger()["billed"] > target
        if reached:
            return True
        time.sleep(LOOK_S)
    return False


def report(result: Account, kills: list[Kill], in_flight: int) -> str:
    """The table of kills, and the sums."""
    rows = [
        [
            f"{life.kill.number}{' (by the clock)' if life.kill.by_clock else ''}",
            f"{life.kill.at - life.kill.started:.2f}",
            str(life.answers_before),
            str(life.lost),
            str(life.listed),
        ]
        for life in result.lives
    ]
    header = ("kill", "s after start", "answers before", "lost", "listed as maybe")
    sums = [
        f"{len(kills)} kills, {result.images} images, {in_flight} in flight at most; "
        f"most answers lost at one kill: {max((life.lost for life in result.lives), default=0)}.",
        f"Paid: {result.billed} answers, {result.paid_again} of them for an image that was asked again.",
        f"Received before a kill, and paid for again: {result.recorded_twice}.",
        f"Lost at a kill and not listed as maybe: {result.unlisted}. Listed as maybe in all: {result.maybe}.",
        f"Recorded ${result.recorded_usd} + maybe ${result.maybe_usd} = ${result.recorded_usd + result.maybe_usd}; "
        f"the ledger says ${result.ledger_usd}.",
        f"Rows of the last run: {result.rows}, good: {result.good}.",
        "It balances." if result.balanced else "IT DOES NOT BALANCE.",
    ]
    return "\n".join(["", table(header, rows), "", *sums])


def kill_options(name: str, description: str | None, *, latency: float, of: str) -> argparse.ArgumentParser:
    """What a benchmark of kills may be told; `latency` is that of `of` in seconds, unless another is given."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmark.{name}", description=description)
    parser.add_argument("--kills", type=int, default=20, help="each costs a start (default: %(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="images of the run (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=latency, help=f"seconds {of} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the folder with tables and logs")
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = kill_options("kills", __doc__, latency=0.005, of="to an answer")
    parser.add_argument("--in-flight", type=int, default=20, help="calls at once (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
