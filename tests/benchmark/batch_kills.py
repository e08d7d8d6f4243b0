"""`python -m tests.benchmark.batch_kills`: a run by Message Batch, killed again and again; nothing is submitted twice.

Batches are kept small, so that there are some dozens. A kill comes at a random moment: by the clock, when so many
batches were created (a random moment later, to hit the time before its id is written down), or when so many of their
requests were answered.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tests.benchmark.images import make_tiny
from tests.benchmark.kills import Scene, kill_options
from tests.benchmark.services import prefect_server, simulator

if TYPE_CHECKING:
    import subprocess

BATCH_BYTES = 75_000  # some thirty tiny images
ABSENCE_S = 2.0  # here a lost batch is listed at once, or never was made
BLIND_S = 4.0
LATER_S = 0.3
LOOK_S = 0.02
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Sums:
    """What the simulator billed, and what the runs know of it."""

    images: int
    ledger: dict[str, Any]
    calls: pa.Table
    rows: pa.Table

    @property
    def recorded(self) -> Decimal:
        """US dollars in all tables `calls`."""
        return sum(self.calls.column("cost_usd").to_pylist(), Decimal(0))

    @property
    def balanced(self) -> bool:
        """Whether nothing was submitted twice, every answer is listed once, and the sums agree to the last digit."""
        ids = pc.count_distinct(self.calls.column("request_id")).as_py()
        once = self.ledger["batch_requests"] == self.images == len(self.calls) == ids and not self.ledger["requests"]
        good = pc.sum(pc.equal(self.rows.column("status"), "ok")).as_py()
        return bool(
            once and len(self.rows) == good == self.images and self.recorded == Decimal(self.ledger["cost_usd"])
        )


def main() -> int:
    """Kill as often as asked, run to the end, and print the sums; exit status 1 if they do not agree."""
    options = kill_options("batch_kills", __doc__, latency=5.0, of="that a batch takes").parse_args()
    for name in ("PREFECT_API_URL", "VISIONFLOW_KEEP_SERVER", "VISIONFLOW_HOME"):
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="visionflow-kills-"))
    (folder / "config").mkdir()
    (folder / "config" / "endpoints.toml").write_text(f"[custom]\nmax_batch_bytes = {BATCH_BYTES}\n")
    os.environ |= {"VISIONFLOW_CONFIG": str(folder / "config"), "VISIONFLOW_BATCH_ABSENCE": str(ABSENCE_S)}
    try:
        make_tiny(folder / "images", options.images)
        with simulator(folder, batch_latency=options.latency) as api, prefect_server(folder) as prefect:
            scene = Scene(folder, api, prefect, in_flight=20, options=("--mode", "batch"))
            kills = kill_again_and_again(scene, options.images, options.kills, random.Random(options.seed))
            sums = Sums(options.images, api.ledger(), _table(scene, "calls"), _table(scene, "results"))
            sums = replace(sums, rows=_newest(sums.rows))
    finally:
        if options.keep:
            print(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{kills} kills, {sums.images} images; {sums.ledger['batches']} batches with {sums.ledger['batch_requests']} "
        f"requests, {sums.ledger['requests']} calls online.\nListed in `calls`: {len(sums.calls)}, of them "
        f"{pc.sum(pc.equal(sums.calls.column('paid'), 'maybe')).as_py() or 0} maybe paid; recorded ${sums.recorded}, "
        f"the ledger says ${sums.ledger['cost_usd']}.\nRows of the last run: {len(sums.rows)}.\n"
        f"{'It balances.' if sums.balanced else 'IT DOES NOT BALANCE.'}"
    )
    return 0 if sums.balanced else 1


def kill_again_and_again(scene: Scene, images: int, most: int, chance: random.Random) -> int:
    """SIGKILL at random moments of one run, which is then left to end; how many there were."""
    kills = 0
    for _ in range(most):
        process, started = scene.start(), time.monotonic()
        if not _until(scene, process, images, chance):
            break  # it came to its end before its moment
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        print(f"kill {kills} of {most}, {time.monotonic() - started:.1f} s after the start", flush=True)
    process = scene.start()
    if process.wait(timeout=PATIENCE_S):
        raise SystemExit(f"The last run ended with {process.returncode}: see {scene.folder}/run.log")
    return kills


def _until(scene: Scene, process: "subprocess.Popen[bytes]", images: int, chance: random.Random) -> bool:
    """Wait for a random moment; False if the run ends before."""
    before, now = scene.simulator.ledger(), time.monotonic()
    left = images - before["billed"]
    kinds = ["clock"]  # and what can still come
    kinds += ["batches"] if before["batch_requests"] < images else []
    kinds += ["answers"] if left else []
    kind = chance.choice(kinds)
    moment, until = now + chance.uniform(0, BLIND_S), now + PATIENCE_S
    more = {"batches": chance.randint(1, 2), "answers": chance.randint(1, max(left // 20, 1))}
    while process.poll() is None and time.monotonic() < until:
        ledger = scene.simulator.ledger()
        if time.monotonic() >= moment:  # at the latest: what it waits for may not come
            return True
        if kind == "batches" and ledger["batches"] >= before["batches"] + more["batches"]:
            time.sleep(chance.uniform(0, LATER_S))
            return process.poll() is None
        if kind == "answers" and ledger["billed"] >= before["billed"] + more["answers"]:
            return True
        time.sleep(LOOK_S)
    return False


def _table(scene: Scene, name: str) -> pa.Table:
    return ds.dataset(scene.output / name, format="parquet").to_table()


def _newest(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows.column("run_id"), pc.max(rows.column("run_id"))))


if __name__ == "__main__":
    sys.exit(main())
