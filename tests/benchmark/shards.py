"""`python -m tests.benchmark.shards`: the throughput of 1, 2 and 4 shards on this machine, against one process.

In turns on the same images, each with an output of its own; the latency is high enough that the places of the job
bind, and not the cores. `x one` compares the time from the first call to the last answer, `command x one` that of the
whole command, start and report included. `all at work s` is from the first call of the run to that of its last shard.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmark.accounts import CALLS_EACH
from tests.benchmark.fleet import POOL, Scene, scene
from tests.benchmark.measuring import BenchmarkError, spread, table

HEADER = ("shards", "calls s", "x one", "command s", "command x one", "to 1st call s", "all at work s", "in flight")
ONE = 0  # one process, without a pool


def measured(made: Scene, shards: int, options: argparse.Namespace, turn: int) -> dict[str, float]:
    """One run; BenchmarkError unless every image was asked about once."""
    made.api.reset(latency=options.latency)
    place = replace(made, output=f"{made.output}-{shards}-{turn}")
    fleet = ["--pool", POOL, "--shards", str(shards)] if shards else []
    began = time.time()
    process = place.start_run("--concurrency", str(options.concurrency), "--no-thumbnails", *fleet)
    out, _ = process.communicate()
    seconds = time.time() - began
    ledger = made.api.ledger()
    if not out.strip() or ledger["billed"] != options.images:
        raise BenchmarkError(f"{ledger['billed']} calls: {(made.folder / 'run.log').read_text()[-1000:]}")
    return {
        "calls": ledger["last"] - ledger["first"],
        "command": seconds,
        "first": ledger["first"] - began,
        "at work": _last_begins(place.output, json.loads(out.splitlines()[-1])["run_id"]) - ledger["first"],
        "in flight": ledger["peak_in_flight"],
    }


def _last_begins(output: str, run_id: str) -> float:
    """When the shard that began last made its first call."""
    from flows import read_calls

    calls: Any = read_calls(output, run=run_id, as_arrow=True)
    first: dict[int, float] = defaultdict(lambda: float("inf"))
    for call in calls.select(["call", "started_at"]).to_pylist():
        shard = call["call"] // (1000 * CALLS_EACH)
        first[shard] = min(first[shard], call["started_at"].timestamp())
    return max(first.values())


def report(runs: dict[int, list[dict[str, float]]]) -> str:
    """A line for each number of shards."""
    lines = []
    for shards, own in runs.items():
        calls, command = (
            [run[what] / one[what] for run, one in zip(own, runs[ONE], strict=True)] for what in ("calls", "command")
        )
        each = {what: [run[what] for run in own] for what in own[0]}
        lines.append(
            [
                str(shards) if shards else "one process",
                spread(each["calls"]),
                spread(calls, 2),
                spread(each["command"]),
                spread(command, 2),
                spread(each["first"]),
                spread(each["at work"]),
                spread(each["in flight"], 0),
            ]
        )
    return table(HEADER, lines)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.shards", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--s3", action="store_true", help="images and output on a local S3 server")
    options = parser.parse_args()
    numbers = [ONE, *options.shards]
    runs: dict[int, list[dict[str, float]]] = {shards: [] for shards in numbers}
    with (
        tempfile.TemporaryDirectory(prefix="visionflow-shards-") as folder,
        scene(Path(folder), options.images, options.latency, s3=options.s3, workers=max(numbers)) as made,
    ):
        for turn in range(options.rounds):
            for shards in numbers:
                runs[shards].append(measured(made, shards, options, turn))
    print(report(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
