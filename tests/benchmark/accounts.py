"""The account after the kills: the simulator's ledger against the `calls` that the runs left."""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from datetime import datetime

CLOCK_S = 0.05  # a call leaves the run that much before or after the simulator notes its arrival, on a busy machine


@dataclass(frozen=True)
class Kill:
    """One SIGKILL; times in seconds since the epoch."""

    number: int
    started: float
    at: float
    by_clock: bool


@dataclass(frozen=True)
class Life:
    """What one kill cost."""

    kill: Kill
    answers_before: int
    lost: int  # answers paid for that no run received
    listed: int  # those of them that `calls` lists as maybe


@dataclass(frozen=True)
class Account:
    """What was paid, and what the runs know of it."""

    lives: list[Life]
    images: int
    billed: int
    paid_again: int
    recorded_twice: int
    unlisted: int
    maybe: int
    recorded_usd: Decimal
    maybe_usd: Decimal
    ledger_usd: Decimal
    rows: int
    good: int

    @property
    def balanced(self) -> bool:
        """Whether nothing received was paid again, every loss is listed, and the sums agree to the last digit."""
        whole = self.rows == self.good == self.images
        sums = self.recorded_usd + self.maybe_usd == self.ledger_usd
        return whole and sums and not self.recorded_twice and not self.unlisted


@dataclass(frozen=True)
class Calls:
    """The `calls` of all runs of the job."""

    recorded: list[dict[str, Any]]
    maybe: list[dict[str, Any]]

    @classmethod
    def read(cls, output: Path) -> "Calls":
        """From every part that is there, a dead run's included."""
        columns = ["sent_sha256", "paid", "started_at", "cost_usd", "request_id"]
        parts = sorted((output / "calls").rglob("*.parquet"))
        rows = [row for part in parts for row in pq.ParquetFile(part).read(columns=columns).to_pylist()]
        return cls(
            recorded=[row for row in rows if row["paid"] == "yes"],
            maybe=[row for row in rows if row["paid"] == "maybe"],
        )


def account(entries: list[dict[str, Any]], output: Path, kills: list[Kill], images: int) -> Account:
    """Match every paid answer of the ledger to a call that is recorded, or to one that is listed as maybe."""
    calls = Calls.read(output)
    recorded = {call["request_id"] for call in calls.recorded}
    billed = [entry for entry in entries if entry["billed"]]
    lost = [entry for entry in billed if entry["request_id"] not in recorded]
    listed = _listed(lost, calls.maybe)
    times: dict[str, int] = defaultdict(int)
    for call in calls.recorded:
        times[call["sent_sha256"]] += 1
    rows = _last_rows(output)
    return Account(
        lives=[_life(kill, billed, lost, listed) for kill in kills],
        images=images,
        billed=len(billed),
        paid_again=len(billed) - len({entry["images"][0] for entry in billed}),
        recorded_twice=sum(count - 1 for count in times.values()),
        unlisted=len(lost) - len(listed),
        maybe=len(calls.maybe),
        recorded_usd=sum((call["cost_usd"] for call in calls.recorded), Decimal(0)),
        maybe_usd=sum((Decimal(entry["cost_usd"]) for entry in lost if entry["request_id"] in listed), Decimal(0)),
        ledger_usd=sum((Decimal(entry["cost_usd"]) for entry in billed), Decimal(0)),
        rows=len(rows),
        good=rows.count("ok"),
    )


def _listed(lost: list[dict[str, Any]], maybe: list[dict[str, Any]]) -> set[str]:
    """Request ids of lost answers that `calls` lists: the same image, sent when the simulator got it."""
    waiting: dict[str, list[datetime]] = defaultdict(list)
    for call in maybe:
        waiting[call["sent_sha256"]].append(call["started_at"])
    listed = set()
    for entry in lost:
        sent = waiting[entry["images"][0]]
        near = [at for at in sent if -CLOCK_S <= entry["time"] - at.timestamp() < 1.0]
        if near:
            sent.remove(near[0])
            listed.add(entry["request_id"])
    return listed


def _life(kill: Kill, billed: list[dict[str, Any]], lost: list[dict[str, Any]], listed: set[str]) -> Life:
    own = [entry for entry in lost if kill.started <= entry["time"] <= kill.at + CLOCK_S]
    return Life(
        kill=kill,
        answers_before=sum(entry["time"] + entry["seconds"] <= kill.at for entry in billed),
        lost=len(own),
        listed=sum(entry["request_id"] in listed for entry in own),
    )


def _last_rows(output: Path) -> list[str]:
    """Status of every row of the run that came to its end."""
    last = max((output / "results").glob("job=*/run=*"))
    parts = sorted(last.glob("*.parquet"))
    return [status for part in parts for status in pq.ParquetFile(part).read(columns=["status"])["status"].to_pylist()]


CALLS_EACH = 10**9  # numbers of calls for one process of a fleet; a thousand processes a shard (tasks/orchestration)


def fleet_account(ledger: dict[str, Any], output: str, summary: dict[str, Any], killed: float) -> dict[str, Any]:
    """What the ledger and the tables of a fleet's run say; `killed` is when a worker was, in seconds."""
    from flows import read_calls, read_results

    rows: Any = read_results(output, run=summary["run_id"], as_arrow=True)
    table: Any = read_calls(output, run=summary["run_id"], as_arrow=True)
    calls = table.to_pylist()
    billed = [entry for entry in ledger["entries"] if entry["billed"]]
    received = {call["request_id"] for call in calls}
    lost = [entry for entry in billed if entry["request_id"] not in received]
    after = [call["started_at"].timestamp() for call in calls if (call["call"] or 0) // CALLS_EACH % 1000]
    arrivals = sorted(entry["time"] for entry in ledger["entries"])
    span = max(arrivals) - min(arrivals)
    return {
        "status": summary["status"],
        "rows": rows.num_rows,
        "images with a row": len(set(rows["image"].to_pylist())),
        "billed": len(billed),
        "asked twice": len(billed) - len({entry["images"][0] for entry in billed}),
        "answers lost": len(lost),
        "maybe": sum(call["paid"] == "maybe" for call in calls),
        "ledger": str(sum((Decimal(entry["cost_usd"]) for entry in billed), Decimal(0))),
        "calls": str(
            sum((call["cost_usd"] for call in calls), Decimal(0))
            + sum((Decimal(entry["cost_usd"]) for entry in lost), Decimal(0))
        ),
        "summary": summary["cost_usd"],
        "peak in flight": ledger["peak_in_flight"],
        "most in a second": _most_within(arrivals, 1.0),
        "taken over after": f"{min(after) - killed:.0f} s" if killed and after else "-",
        "seconds": summary["seconds"],
        "calls/s": round(len(arrivals) / span, 1) if span else 0.0,
    }


def _most_within(times: list[float], seconds: float) -> int:
    """Most of the ascending times that lie within any such span."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
