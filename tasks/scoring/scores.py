"""Answers of runs against labels: every variant scored, by image and by field, and what a second reading is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import fmean, median
from typing import Any

import numpy as np

from config.prices import Price
from tasks.billing.pricing import cost_usd, price_for
from tasks.billing.usage import Usage
from tasks.labelling.truth import PLAIN
from tasks.schemas.tree import Node
from tasks.scoring.cells import TEXT, Shape, Tally, failed, shape_of, tally
from tasks.scoring.statistics import Scores, interval

Row = Mapping[str, Any]
Key = tuple[str, int]  # image and page

# The endpoint's doing and no answer of the model's: such an image is no evidence for or against it.
UNSCORED = frozenset({"unavailable", "unasked"})
THOUSAND = 1000


@dataclass(frozen=True)
class Sheet:
    """One variant's answers: a row for each key, and what each field and the whole came to; None where unscored."""

    rows: Sequence[Row | None] = field(repr=False)
    fields: Mapping[str, Sequence[Tally | None]] = field(repr=False)
    totals: Sequence[Tally | None] = field(repr=False)

    @property
    def scores(self) -> Scores:
        """Value F1 of each image and page; NaN where there is no score."""
        return np.array([np.nan if one is None else one.f1 for one in self.totals], np.float64)

    @property
    def is_whole(self) -> bool:
        """Whether every image has a score."""
        return all(one is not None for one in self.totals)

    @property
    def failed(self) -> int:
        """Images that count 0, as they have no good answer."""
        return sum(row is not None and row["status"] not in ("ok", *UNSCORED) for row in self.rows)


def fields_of(root: Node | None, labels: Sequence[Any] | None) -> tuple[tuple[str, Shape], ...]:
    """The fields that are scored, each with its shape; without a schema the one text."""
    return shape_of(root, labels).fields if root is not None else ((PLAIN, TEXT),)


def answer_of(row: Row) -> Mapping[str, Any]:
    """The answer's fields; of a run without a schema the one text."""
    result = row.get("result")
    return result if isinstance(result, Mapping) else {PLAIN: row["answer"]}


def mark(
    fields: Sequence[tuple[str, Shape]], keys: Sequence[Key], labels: Mapping[Key, Row], rows: Mapping[Key, Row]
) -> Sheet:
    """Hold a variant's rows against the labels. A page that has no row, as the file has fewer, counts as failed.

    What has no label has no score.
    """
    marked: dict[str, list[Tally | None]] = {name: [] for name, _ in fields}
    totals: list[Tally | None] = []
    for key in keys:
        row, label = rows.get(key), labels.get(key)
        if label is None or (row is not None and row["status"] in UNSCORED):
            found: list[Tally | None] = [None] * len(fields)
        elif row is None or row["status"] != "ok":
            found = [failed(shape, label.get(name)) for name, shape in fields]
        else:
            answer = answer_of(row)
            found = [tally(shape, label.get(name), answer.get(name)) for name, shape in fields]
        for (name, _), one in zip(fields, found, strict=True):
            marked[name].append(one)
        told = [one for one in found if one is not None]
        totals.append(sum(told, Tally()) if len(told) == len(found) else None)
    return Sheet([rows.get(key) for key in keys], marked, totals)


def mark_each_other(
    fields: Sequence[tuple[str, Shape]], keys: Sequence[Key], rows: Sequence[Mapping[Key, Row]]
) -> list[Sheet]:
    """Hold each variant's rows against those of all others, as if they were labels: how far the variants agree."""
    answers = [{key: answer_of(row) for key, row in one.items() if row["status"] == "ok"} for one in rows]
    sheets = []
    for at, mine in enumerate(rows):
        others = [mark(fields, keys, labels, mine) for one, labels in enumerate(answers) if one != at]
        marked = {name: _together([other.fields[name] for other in others]) for name, _ in fields}
        sheets.append(Sheet([mine.get(key) for key in keys], marked, _together([other.totals for other in others])))
    return sheets


def _together(tallies: Sequence[Sequence[Tally | None]]) -> list[Tally | None]:
    """The tallies of each image added up; None where all are."""
    added: list[Tally | None] = []
    for several in zip(*tallies, strict=True):
        told = [one for one in several if one is not None]
        added.append(sum(told, Tally()) if told else None)
    return added


def figures(tallies: Sequence[Tally | None]) -> dict[str, Any]:
    """Score and 95 % interval over the images that have one; edit similarity and overlap where there are any."""
    told = [one for one in tallies if one is not None]
    scores = np.array([one.f1 for one in told], np.float64)
    low, high = interval(scores)
    alike = [fmean(one.alike) for one in told if one.alike]
    overlaps = [fmean(one.overlaps) for one in told if one.overlaps]
    return {
        "images": len(told),
        "score": _rounded(float(scores.mean())) if told else None,
        "low": _rounded(low),
        "high": _rounded(high),
        "similarity": _rounded(fmean(alike)) if alike else None,
        "iou": _rounded(fmean(overlaps)) if overlaps else None,
    }


@dataclass(frozen=True)
class Price1000:
    """US dollars for a thousand images like these, as if no answer had been kept; None without a price."""

    online: Decimal | None
    batch: Decimal | None


@dataclass(frozen=True)
class Spent:
    """How a run paid: online or by batch; with a second reading also what it paid and was spared, in US dollars."""

    online: bool
    with_second_reading: Decimal | None = None


def price_per_1000(rows: Sequence[Row], prices: Sequence[Price], spent: Spent) -> Price1000:
    """What a thousand such images cost: what this run paid for a row, else what its tokens cost at the list price.

    With a second reading, whose tokens no row has, what the run paid and was spared. Images that could not be asked
    about tell nothing of the price.
    """
    rows = [row for row in rows if row["status"] not in UNSCORED]
    images = len({row["image"] for row in rows})
    if not prices or not images:
        return Price1000(None, None)
    factor = price_for(0, prices).batch_factor
    if spent.with_second_reading is None:
        total = sum((_price(row, prices, paid_online=spent.online) for row in rows), Decimal(0))
    else:
        total = spent.with_second_reading / (1 if spent.online else factor or 1)
    online = total * THOUSAND / images
    return Price1000(online, online * factor if factor is not None else None)


def _price(row: Row, prices: Sequence[Price], *, paid_online: bool) -> Decimal:
    if paid_online and row["cost_usd"]:
        return Decimal(row["cost_usd"])  # with repeated calls and earlier steps
    usage = Usage(
        input=row["input_tokens"] or 0,
        output=row["output_tokens"] or 0,
        cache_read=row["cache_read_tokens"] or 0,
        cache_write_5m=row["cache_write_tokens"] or 0,
    )
    return cost_usd(usage, prices)


def latency_ms(rows: Sequence[Row]) -> int | None:
    """The median over answered images."""
    known = [row["latency_ms"] for row in rows if row["latency_ms"] is not None]
    return round(median(known)) if known else None


def _rounded(value: float) -> float:
    return round(value, 6)


@dataclass(frozen=True)
class Calibration:
    """Of good answers that were read twice; a row is right where every cell that has a label is."""

    rows: int
    flagged: int
    right: int
    """Right ones of those not flagged."""
    wrong: int
    caught: int
    """Wrong ones that were flagged."""

    @property
    def described(self) -> dict[str, Any]:
        """For `--json`: shares, and the 95 % interval of what is right without review."""
        trusted = self.rows - self.flagged
        low, high = interval(np.array([1.0] * self.right + [0.0] * (trusted - self.right)))
        return {
            "rows": self.rows,
            "flagged": self.flagged / self.rows,
            "right": self.right / trusted if trusted else None,
            "low": round(low, 6),
            "high": round(high, 6),
            "errors_caught": self.caught / self.wrong if self.wrong else None,
        }


def calibration(sheet: Sheet) -> Calibration | None:
    """None where no row was read twice."""
    told = [
        (bool(row["needs_review"]), not total.wrong)
        for row, total in zip(sheet.rows, sheet.totals, strict=True)
        if row is not None and total is not None and row["status"] == "ok" and row.get("needs_review") is not None
    ]
    if not told:
        return None
    return Calibration(
        rows=len(told),
        flagged=sum(flagged for flagged, _ in told),
        right=sum(right and not flagged for flagged, right in told),
        wrong=sum(not right for _, right in told),
        caught=sum(flagged and not right for flagged, right in told),
    )
