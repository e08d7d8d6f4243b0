"""The tables of a made-up run, with everything a report has to show: failures, brakes, retries, kept answers."""

import json
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tasks.recording.tables import STATUSES
from tasks.recording.writer import table_schema, to_table

START = datetime(2026, 11, 23, 15, 44, 12, tzinfo=UTC)
RUN_ID = "20261123T154412Z-k3f9"
INPUT_USD, OUTPUT_USD = Decimal("0.0000001"), Decimal("0.0000005")
RESULT = pa.struct([("company", pa.string()), ("date", pa.date32()), ("total", pa.decimal128(12, 2))])
FAILURES = (
    ("unreadable", "truncated", "The file ends in the middle of the image: it was cut off when it was copied."),
    ("unreadable", "not_an_image", "These bytes are no image in a known format."),
    ("refused", "refusal", "The model declined to answer."),
    ("invalid", "schema", "total: 'n/a' is not a number."),
    ("unavailable", "overloaded", "529 overloaded_error in each of 5 attempts."),
    ("truncated", "max_tokens", "The answer reached 8,192 tokens, the most this preset allows."),
)


@dataclass(frozen=True)
class MadeRun:
    """What `render_report` takes."""

    run: dict[str, Any]
    costs: list[dict[str, Any]]
    results: pa.Table
    calls: pa.Table


def make_run(
    rows: int, *, in_flight: int = 48, failing: float = 0.02, seed: int = 1, simulated: bool = False
) -> MadeRun:
    """A run of so many one-page images; the rows are equal for an equal seed."""
    chance = random.Random(seed)
    results, calls = [], []
    free = [START] * in_flight
    for index in range(rows):
        row = result_row(index, chance, failing)
        if row["status"] != "unreadable" and not row["cached"]:
            slot = free.index(min(free))
            mine = call_rows(row, free[slot], chance)
            free[slot] = mine[-1]["started_at"] + timedelta(milliseconds=mine[-1]["latency_ms"] or 0)
            row |= {"attempts": len(mine), "latency_ms": mine[-1]["latency_ms"], "answered_at": free[slot]}
            row["cost_usd"] = sum((call["cost_usd"] for call in mine), Decimal(0))
            calls += mine
        results.append(row)
    costs = [cost_row(results, calls, simulated)]
    run = run_row(results, calls, costs[0], (max(free) - START).total_seconds())
    return MadeRun(
        run, costs, to_table(results, table_schema("results", RESULT)), to_table(calls, table_schema("calls"))
    )


def result_row(index: int, chance: random.Random, failing: float) -> dict[str, Any]:
    bad = chance.random() < failing
    status, code, reason = chance.choice(FAILURES) if bad else ("ok", None, None)
    name = f"{2026 - index % 3}/receipt-{index:05}.jpg"
    total = Decimal(chance.randrange(300, 90_000)) / 100
    day = date(2026, 1, 1) + timedelta(days=chance.randrange(300))
    company = chance.choice(("Blue Heron Cafe", "Northmoor Instruments Ltd", "Orchard Street Furniture"))
    typed = {"company": company, "date": day, "total": total}
    return {
        "image": f"s3://acme/receipts/{name}",
        "page": 1,
        "name": name,
        "status": status,
        "error_code": code,
        "error": reason,
        "sent_width": 1176,
        "sent_height": 1568,
        "answer": None if bad else json.dumps(typed, default=str),
        "result": None if bad else typed,
        "cached": not bad and chance.random() < 0.1,
        "attempts": 0,
        "cost_usd": Decimal(0),
        "run_id": RUN_ID,
    }


def call_rows(row: dict[str, Any], at: datetime, chance: random.Random) -> list[dict[str, Any]]:
    """The calls for one image: sometimes braked or cut first, then the one that settled it."""
    calls: list[dict[str, Any]] = []
    while chance.random() < 0.04:
        kind, status, paid = chance.choice(
            (("throttled", 429, "no"), ("overloaded", 529, "no"), ("unknown", None, "maybe"))
        )
        calls.append({"outcome": kind, "http_status": status, "paid": paid, "latency_ms": chance.randrange(40, 400)})
    latency = int(chance.lognormvariate(7.6, 0.45)) + (60_000 if chance.random() < 0.001 else 0)
    lost = row["status"] == "unavailable"
    tokens = (
        {"input_tokens": 0, "output_tokens": 0}
        if lost
        else {"input_tokens": 2450, "output_tokens": chance.randrange(60, 900)}
    )
    settled = (
        {"outcome": "overloaded", "http_status": 529, "paid": "no"}
        if lost
        else {"outcome": "answered", "http_status": 200, "paid": "yes"}
    )
    calls.append({**settled, **tokens, "latency_ms": latency})
    for attempt, call in enumerate(calls, start=1):
        paid = call.get("input_tokens", 0) * INPUT_USD + call.get("output_tokens", 0) * OUTPUT_USD
        call |= {"image": row["image"], "page": 1, "attempt": attempt, "started_at": at, "cost_usd": paid}
        call |= {"run_id": RUN_ID}
        at += timedelta(milliseconds=call["latency_ms"], seconds=0.5)
    return calls


def cost_row(results: list[dict[str, Any]], calls: list[dict[str, Any]], simulated: bool) -> dict[str, Any]:
    spent = sum((call["cost_usd"] for call in calls), Decimal(0))
    return {
        "model": "claude-haiku-5-5",
        "endpoint": "simulator" if simulated else "anthropic",
        "preset": "ocr",
        "tier": "standard",
        "calls": len(calls),
        "calls_maybe_paid": sum(call["paid"] == "maybe" for call in calls),
        "images": sum(row["attempts"] > 0 for row in results),
        "input_tokens": sum(call.get("input_tokens", 0) for call in calls),
        "output_tokens": sum(call.get("output_tokens", 0) for call in calls),
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cost_usd": spent,
        "cost_cny": round(spent * Decimal("7.0197"), 9),
        "cny_per_usd": Decimal("7.0197"),
        "saved_kept_usd": sum(row["cached"] for row in results) * Decimal("0.000485"),
        "saved_duplicates_usd": Decimal("0.00097"),
        "saved_caching_usd": Decimal(0),
        "saved_batch_usd": Decimal(0),
        "price_source": "https://platform.claude.com/docs/en/about-claude/pricing",
        "price_checked": date(2026, 11, 10),
        "simulated": simulated,
        "job": "receipts",
        "run_id": RUN_ID,
    }


def run_row(
    results: list[dict[str, Any]], calls: list[dict[str, Any]], cost: dict[str, Any], seconds: float
) -> dict[str, Any]:
    counts = {status: sum(row["status"] == status for row in results) for status in STATUSES}
    good = counts["ok"] == len(results)
    settings = {"preset": "ocr", "model": "claude-haiku-5-5", "schema": "receipt", "max_cost": "5", "concurrency": 48}
    prompt = "Read all text in this image exactly as written,\nline by line, top to bottom."
    return {
        "run_id": RUN_ID,
        "job": "receipts",
        "status": "completed" if good else "completed_with_failures",
        "message": None,
        "source": "s3://acme/receipts",
        "output": "s3://acme/facts",
        "settings": json.dumps({**settings, "prompt": prompt, "fallbacks": []}),
        "simulated": cost["simulated"],
        "started_at": START,
        "finished_at": START + timedelta(seconds=seconds),
        "seconds": seconds,
        "images": len({row["image"] for row in results}),
        "rows": len(results),
        **counts,
        "cached": sum(row["cached"] for row in results),
        "duplicates": 2,
        "calls": len(calls),
        **{name: cost[name] for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")},
        "cost_usd": cost["cost_usd"],
        "cost_cny": cost["cost_cny"],
        "versions": json.dumps({"visionflow": "0.1.0", "python": "3.11.7", "pillow": "13.0.0", "pyarrow": "26.0.1"}),
    }
