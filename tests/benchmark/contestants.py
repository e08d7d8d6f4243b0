"""The contestants: each is given the same folder of images, runs as a process of its own, and has its rows checked."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from config.presets import preset
from tests.benchmark.floors import MAX_TOKENS, MODEL, PROMPT
from tests.benchmark.measuring import BenchmarkError, Measured, measure
from tests.benchmark.services import PrefectServer, Simulator, cpu_seconds

PRESET = "ocr"  # the largest images that the presets send
KEY = "of-the-benchmark"
PATIENCE_S = 60.0  # for a process to start and end, beside its work
SECONDS_AN_IMAGE = 2.0  # more than the slowest contestant needs


@dataclass(frozen=True)
class Bench:
    """Where everything happens, and against whom."""

    folder: Path
    simulator: Simulator
    prefect: PrefectServer

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    @property
    def environment(self) -> dict[str, str]:
        """What every contestant finds in its environment."""
        return {"ANTHROPIC_BASE_URL": self.simulator.url, "ANTHROPIC_API_KEY": KEY}


@dataclass(frozen=True)
class Task:
    """What every contestant is to do."""

    images: Path
    count: int
    in_flight: int
    latency: float


@dataclass(frozen=True)
class Timed:
    """What one contestant took once; its rows were right."""

    process: Measured
    ledger: dict[str, Any]
    server_cpu_s: float | None

    @property
    def calls_s(self) -> float:
        """From the arrival of the first call to the answer to the last, by the simulator's clock."""
        return float(self.ledger["last"] - self.ledger["first"])

    @property
    def to_first_call_s(self) -> float:
        """From the start of the process to the arrival of its first call."""
        return float(self.ledger["first"] - self.process.started)


Contestant = Callable[[Bench, Task], Timed]


def floor(way: str) -> Contestant:
    """One of the ways of `floors`."""

    def run(bench: Bench, task: Task) -> Timed:
        place = bench.fresh("floor")
        chosen = preset(PRESET)
        report = place / "rows.json"
        command = ["-m", "tests.benchmark.floors", way, task.images, report, "--in-flight", task.in_flight]
        command += ["--edge", chosen.max_edge, "--quality", chosen.quality]
        timed = _time(bench, task, command, bench.environment, place)
        rows = json.loads(report.read_text(encoding="utf-8"))
        check_rows([(row["image"], row["status"]) for row in rows], timed.ledger, task)
        return timed

    return run


def visionflow(bench: Bench, task: Task) -> Timed:
    """`visionflow run` on new folders, with a Prefect server that runs already."""
    place = bench.fresh("visionflow")
    environment = {"PREFECT_API_URL": bench.prefect.url, "VISIONFLOW_HOME": str(place / "home")}
    return run_visionflow(bench, task, place / "output", environment)


def visionflow_own_server(bench: Bench, task: Task) -> Timed:
    """`visionflow run` that starts a Prefect server itself, on a home that is migrated."""
    place = bench.fresh("visionflow-own-server")
    prefect = bench.prefect.copy_home(place / "prefect")
    environment = {"PREFECT_HOME": str(prefect), "VISIONFLOW_HOME": str(place / "home")}
    return run_visionflow(bench, task, place / "output", environment)


def run_visionflow(
    bench: Bench, task: Task, output: Path, environment: dict[str, str], *, calls: int | None = None
) -> Timed:
    """`visionflow run`, which must make so many calls: one an image unless `calls` says that answers are kept."""
    command = ["-m", "flows", "run", task.images, "--output", output, "--json", "--no-progress"]
    command += ["--preset", PRESET, "--model", MODEL, "--prompt", PROMPT, "--max-tokens", MAX_TOKENS]
    command += ["--concurrency", task.in_flight]
    timed = _time(bench, task, command, {**bench.environment, **environment}, output.parent)
    summary = json.loads(timed.process.out.splitlines()[-1])
    rows = pq.read_table(summary["results"], columns=["image", "status"])
    pairs = zip(rows["image"].to_pylist(), rows["status"].to_pylist(), strict=True)
    check_rows(list(pairs), timed.ledger, task, calls=calls)
    return timed


def check_rows(rows: list[tuple[str, str]], ledger: dict[str, Any], task: Task, *, calls: int | None = None) -> None:
    """BenchmarkError unless there is one good row for each image and one paid call for each row."""
    statuses = Counter(status for _, status in rows)
    if statuses != {"ok": task.count}:
        raise BenchmarkError(f"{task.count} good rows were expected: {dict(statuses)}")
    if len({image for image, _ in rows}) != task.count:
        raise BenchmarkError("an image has two rows, and another none")
    expected = task.count if calls is None else calls
    if ledger["billed"] != expected:
        raise BenchmarkError(f"{ledger['billed']} calls were paid instead of {expected}")


CONTESTANTS: dict[str, Contestant] = {
    "bare": floor("bytes"),
    "pillow": floor("pillow"),
    "threads": floor("threads"),
    "visionflow": visionflow,
    "own-server": visionflow_own_server,
}


def _time(bench: Bench, task: Task, command: list[object], environment: dict[str, str], place: Path) -> Timed:
    bench.simulator.reset(latency=task.latency)
    before = cpu_seconds(bench.prefect.pid)
    most = PATIENCE_S + task.count * (SECONDS_AN_IMAGE + task.latency)
    process = measure(command, environment, place / "out.txt", seconds=most)
    after = cpu_seconds(bench.prefect.pid)
    if process.status != 0:
        errors = (place / "out.err").read_text(encoding="utf-8")[-2000:]
        raise BenchmarkError(f"{' '.join(map(str, command[:4]))} ended with {process.status}: {errors}")
    server = after - before if before is not None and after is not None else None
    return Timed(process, bench.simulator.ledger(), server)
