"""The contestants: each is given the same folder of images, runs as a process of its own, and has its rows checked."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from config.presets import preset
from tasks.storage.output import open_output
from tests.benchmark.floors import MAX_TOKENS, MODEL, PROMPT
from tests.benchmark.measuring import BenchmarkError, Measured, measure
from tests.benchmark.services import PrefectServer, Simulator, cpu_seconds
from tests.benchmark.storage import Storage

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
    storage: Storage

    @property
    def near(self) -> "Bench":
        """The same without any distance to the storage."""
        return replace(self, storage=self.storage.near)

    def fresh(self, name: str) -> Path:
        """An empty folder."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    @property
    def environment(self) -> dict[str, str]:
        """What every contestant finds in its environment."""
        return {"ANTHROPIC_BASE_URL": self.simulator.url, "ANTHROPIC_API_KEY": KEY, **self.storage.environment}

    def place(self, name: str) -> "Place":
        """An empty folder, and an output that nobody has written to."""
        folder = self.fresh(name)
        return Place(folder, self.storage.output(folder))

    def used(self) -> dict[str, float]:
        """CPU seconds of the services so far."""
        pids = {"simulator": self.simulator.pid, "prefect": self.prefect.pid, "s3": self.storage.pid}
        known = {name: cpu_seconds(pid) for name, pid in pids.items() if pid is not None}
        return {name: seconds for name, seconds in known.items() if seconds is not None}


@dataclass(frozen=True)
class Place:
    """Where a run of visionflow keeps and writes."""

    folder: Path
    output: str

    def with_server(self, url: str) -> dict[str, str]:
        """The environment of a run on a Prefect server that is there."""
        return {"PREFECT_API_URL": url, "VISIONFLOW_HOME": str(self.folder / "home")}


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
    services: dict[str, float]  # CPU seconds of the simulator, Prefect's server (if it was used) and S3

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
        command = ["-m", "tests.benchmark.floors", way, bench.storage.images(task.images), report]
        command += ["--in-flight", task.in_flight, "--edge", chosen.max_edge, "--quality", chosen.quality]
        timed = _time(bench, task, command, bench.environment, place)
        rows = json.loads(report.read_text(encoding="utf-8"))
        check_rows([(row["image"], row["status"]) for row in rows], timed.ledger, task)
        return timed

    return run


def visionflow(*options: object) -> Contestant:
    """`visionflow run` with these options beside the job's, on new folders and a Prefect server that runs already."""

    def run(bench: Bench, task: Task) -> Timed:
        place = bench.place("visionflow")
        return run_visionflow(bench, task, place, place.with_server(bench.prefect.url), options=options)

    return run


def visionflow_own_server(bench: Bench, task: Task) -> Timed:
    """`visionflow run` that starts a Prefect server itself, on a home that is migrated."""
    place = bench.place("visionflow-own-server")
    prefect = bench.prefect.copy_home(place.folder / "prefect")
    environment = {"PREFECT_HOME": str(prefect), "VISIONFLOW_HOME": str(place.folder / "home")}
    return run_visionflow(bench, task, place, environment)


def run_visionflow(
    bench: Bench,
    task: Task,
    place: Place,
    environment: dict[str, str],
    *,
    calls: int | None = None,
    program: Sequence[object] = ("flows",),
    options: Sequence[object] = (),
) -> Timed:
    """`visionflow run`, which must make so many calls: one an image unless `calls` says that answers are kept."""
    command = ["-m", *program, "run", bench.storage.images(task.images), "--output", place.output]
    command += ["--json", "--no-progress", "--concurrency", task.in_flight]
    command += ["--preset", PRESET, "--model", MODEL, "--prompt", PROMPT, "--max-tokens", MAX_TOKENS, *options]
    timed = _time(bench, task, command, {**bench.environment, **environment}, place.folder)
    summary = json.loads(timed.process.out.splitlines()[-1])
    results = summary["results"].removeprefix(f"{place.output}/")
    rows = open_output(place.output).read_table(results, ["image", "status"])
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
    "visionflow": visionflow(),
    "own-server": visionflow_own_server,
}


def _time(bench: Bench, task: Task, command: list[object], environment: dict[str, str], place: Path) -> Timed:
    bench.simulator.reset(latency=task.latency)
    before = bench.used()
    most = PATIENCE_S + task.count * (SECONDS_AN_IMAGE + task.latency)
    process = measure(command, environment, place / "out.txt", seconds=most)
    if process.status != 0:
        errors = (place / "out.err").read_text(encoding="utf-8")[-2000:]
        raise BenchmarkError(f"{' '.join(map(str, command[:4]))} ended with {process.status}: {errors}")
    ledger = bench.simulator.ledger()
    ours = "PREFECT_API_URL" in environment
    if ours:
        bench.prefect.settle()
    services = {name: seconds - before.get(name, 0.0) for name, seconds in bench.used().items()}
    if not ours:
        services.pop("prefect", None)
    return Timed(process, ledger, services)
