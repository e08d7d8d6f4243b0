"""What a report says about a run: counts, orders and samples, computed in Arrow so that 100,000 rows stay columns."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.asking.question import SECOND
from tasks.recording.tables import STATUSES, TOKEN_COLUMNS

Row = Mapping[str, Any]

MEANINGS = {
    "ok": "a good answer",
    "unreadable": "the file cannot be decoded",
    "rejected": "the API refuses this request",
    "refused": "the model declined",
    "truncated": "the answer was cut off",
    "invalid": "the answer does not fit the schema",
    "unavailable": "every attempt failed",
    "unasked": "the run ended before its turn",
}
SAVINGS = {
    "saved_kept_usd": "answers kept from earlier runs",
    "saved_duplicates_usd": "the same image asked once",
    "saved_caching_usd": "prompt caching",
    "saved_batch_usd": "batch prices",
}
SUMMED = ("calls", "calls_maybe_paid", "images", *(name for name, _ in TOKEN_COLUMNS), "cost_usd", "cost_cny", *SAVINGS)

# What a report looks at in every row; answers, which are most of a table, are not among it.
RESULT_COLUMNS = ["name", "image", "page", "status", "error_code", "sent_width", "sent_height", "attempts"]
RESULT_COLUMNS += ["latency_ms", "cost_usd", "cached", "duplicate_of"]
CALL_COLUMNS = ["model", "step", "outcome", "http_status", "attempt", "paid", "cost_usd", "started_at", "latency_ms"]
COMPARED = ["name", "image", "page", "sent_width", "sent_height", "attempts", "latency_ms", "cost_usd"]

EXTREMES = 5


@dataclass(frozen=True, slots=True)
class StatusShare:
    """A part of a whole; `percent` is exact, for drawing."""

    name: str
    meaning: str
    count: int
    percent: float


def shares(run: Row) -> list[StatusShare]:
    """The statuses that occur, good ones first."""
    counts = {status: run.get(status) or 0 for status in STATUSES}
    total = sum(counts.values()) or 1
    return [StatusShare(name, MEANINGS[name], count, 100 * count / total) for name, count in counts.items() if count]


def cost_totals(costs: Iterable[Row]) -> dict[str, Any]:
    """The sums over all models, endpoints, presets and tiers, to the last digit."""
    costs = list(costs)
    return {name: sum((row[name] for row in costs if row[name] is not None), 0) for name in SUMMED}


def savings(totals: Row) -> list[tuple[str, Decimal]]:
    """What was not paid and why; only what is more than nothing."""
    return [(why, totals[name]) for name, why in SAVINGS.items() if totals[name]]


def failed(results: pa.Table) -> pa.Array:
    """A mask of the rows that were tried and have no good answer."""
    return pc.invert(pc.is_in(results["status"], value_set=pa.array(["ok", "unasked"])))


@dataclass(frozen=True, slots=True)
class Reason:
    """How often rows failed in one way."""

    status: str
    error_code: str | None
    count: int


@dataclass(frozen=True, slots=True)
class ResultFigures:
    """What is shown of `results` beside the counts of the run itself."""

    reasons: list[Reason]  # the commonest first
    slowest: list[Row]  # that this run waited for longest
    dearest: list[Row]  # that cost this run most
    paged: frozenset[str]  # which of these images have more than one page


def result_figures(parts: Iterable[pa.Table]) -> ResultFigures:
    """Gathered from one part after another, so that the memory it takes does not grow with the run.

    The pages of a file follow one another, the first one first.
    """
    slowest: list[Row] = []
    dearest: list[Row] = []
    reasons: Counter[tuple[str, str | None]] = Counter()
    paged: set[str] = set()
    for part in parts:
        reasons.update(_reasons(part.filter(failed(part))))
        slowest = _largest([*slowest, *largest(_waited_for(part), "latency_ms")], "latency_ms")
        dearest = _largest([*dearest, *largest(part, "cost_usd")], "cost_usd")
        second = with_second_page(part)
        paged.update(row["image"] for row in (*slowest, *dearest) if row["page"] > 1 or row["image"] in second)
    counted = [Reason(status, code, count) for (status, code), count in reasons.items()]
    counted.sort(key=lambda reason: (-reason.count, reason.status, reason.error_code or ""))
    return ResultFigures(counted, slowest, dearest, frozenset(paged))


def largest(rows: pa.Table, column: str) -> list[Row]:
    """The rows with the largest amounts, none without; copies nothing but these."""
    order = [(column, "descending"), ("name", "ascending")]
    return _largest(rows.select(COMPARED).take(pc.select_k_unstable(rows, EXTREMES, order)).to_pylist(), column)


def _largest(rows: Iterable[Row], column: str) -> list[Row]:
    # Names come second so that equal rows stand in the same order each time.
    return sorted((row for row in rows if row[column]), key=lambda row: (-row[column], row["name"] or ""))[:EXTREMES]


def _waited_for(results: pa.Table) -> pa.Table:
    """The rows with latencies only where this run itself had to wait."""
    kept = pc.or_(pc.fill_null(results["cached"], False), pc.is_valid(results["duplicate_of"]))
    waited = pc.if_else(kept, None, results["latency_ms"])
    return results.set_column(results.column_names.index("latency_ms"), "latency_ms", waited)


def _reasons(bad: pa.Table) -> dict[tuple[str, str | None], int]:
    counted = bad.group_by(["status", "error_code"]).aggregate([([], "count_all")])
    return {(row["status"], row["error_code"]): row["count_all"] for row in counted.to_pylist()}


def with_second_page(part: pa.Table) -> set[str]:
    """The images of which a second page is among these rows."""
    return set(part["image"].filter(pc.equal(part["page"], 2)).to_pylist())


def steps(calls: pa.Table) -> list[Row]:
    """Calls and their cost by model and step of the question, in the order of the steps; none where all are of one."""
    counted = (
        calls.select(["model", "step", "cost_usd"])
        .group_by(["step", "model"])
        .aggregate([([], "count_all"), ("cost_usd", "sum")])
    )
    if counted.num_rows < 2:
        return []
    rows = sorted(counted.to_pylist(), key=lambda row: (row["step"] == SECOND, row["step"] or 0, row["model"] or ""))
    return [{**row, "step": _step(row["step"])} for row in rows]


def _step(number: int | None) -> str:
    if number == SECOND:
        return "second reading"
    return f"fallback {number}" if number else "first question"


def outcomes(calls: pa.Table) -> list[Row]:
    """Calls by outcome and HTTP status with what they cost, the commonest first."""
    maybe = pc.cast(pc.fill_null(pc.equal(calls["paid"], "maybe"), False), pa.int64())
    counted = (
        calls.select(["outcome", "http_status", "cost_usd"])
        .append_column("maybe", maybe)
        .group_by(["outcome", "http_status"])
        .aggregate([([], "count_all"), ("cost_usd", "sum"), ("maybe", "sum")])
    )
    return list(counted.sort_by([("count_all", "descending"), ("outcome", "ascending")]).to_pylist())


def call_counts(calls: pa.Table) -> dict[str, int]:
    """Calls in all, repeated ones, those braked by 429 or 529, and those that may have been paid for nothing."""

    def count(mask: pa.Array) -> int:
        return int(pc.sum(mask).as_py() or 0)

    return {
        "all": calls.num_rows,
        "repeated": count(pc.greater(calls["attempt"], 1)),
        "throttled": count(pc.equal(calls["http_status"], 429)),
        "overloaded": count(pc.equal(calls["http_status"], 529)),
        "maybe": count(pc.equal(calls["paid"], "maybe")),
    }


def pretty(value: object) -> str:
    """Indented JSON; what JSON does not know, such as a date or a decimal, as its text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
