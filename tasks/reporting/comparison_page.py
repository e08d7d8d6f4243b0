"""A comparison as one HTML page: price against score, fields side by side, and the images where variants differ.

Beside it lie the scores that it sums up, one a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import fmean
from typing import Any

import pyarrow as pa

from tasks.recording.writer import run_folder, to_table
from tasks.reporting.gallery import thumbnails
from tasks.reporting.html import environment
from tasks.schemas.boxes import corners
from tasks.scoring.comparison import Compared
from tasks.scoring.scores import UNSCORED, answer_of

SCORES = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "preset", "prompt", "run_id", "image")),
        ("page", pa.int32()),
        ("field", pa.string()),
        ("score", pa.float64()),
        *((name, pa.int32()) for name in ("right", "wanted", "given")),
        *((name, pa.float64()) for name in ("similarity", "iou")),
    ]
)
CARDS = 100
ITEMS, CHARACTERS = 20, 600  # of a value that are shown
WIDTH, HEIGHT, LEFT, BELOW, EDGE = 1000.0, 340.0, 44.0, 30.0, 24.0
ROUND = 24.0  # a point's width and some room
FEW_TIMES = 4.0  # prices further apart than this are drawn on a logarithmic scale


@dataclass(frozen=True)
class Mark:
    """A line of the grid, and what it stands for."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A variant: where its score and the ends of its interval lie."""

    number: int
    x: float
    y: float
    low: float
    high: float
    best: bool
    title: str


@dataclass(frozen=True)
class Picture:
    """Scores by prices, in the units of the drawing."""

    points: Sequence[Point]
    scores: Sequence[Mark]
    prices: Sequence[Mark]
    log: bool
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    bottom: float = HEIGHT - BELOW


def write_comparison(compared: Compared) -> str:
    """Write the page of a comparison that has ended, and `scores.parquet`; the page's URI. Raises OutputError."""
    plan = compared.comparison.variants[0].plan
    folder = run_folder("reports", plan.name, compared.comparison.run_id)
    plan.output.write_table(f"{folder}/scores.parquet", score_table(compared))
    plan.output.write_text(f"{folder}/comparison.html", render_comparison(compared))
    return plan.output.join(f"{folder}/comparison.html")


def score_table(compared: Compared) -> pa.Table:
    """A row for each variant, image, page and field; without a score where the image could not be asked about."""
    rows = []
    for one in compared.variants:
        for name, tallies in one.sheet.fields.items():
            for (image, page), tally in zip(compared.keys, tallies, strict=True):
                row: dict[str, Any] = {**one.key, "run_id": one.run_id, "image": image, "page": page, "field": name}
                if tally is not None:
                    row |= {"score": tally.f1, "right": int(tally.right), "wanted": tally.wanted, "given": tally.given}
                    row |= {"similarity": fmean(tally.alike) if tally.alike else None}
                    row |= {"iou": fmean(tally.overlaps) if tally.overlaps else None}
                rows.append(row)
    return to_table(rows, SCORES)


def render_comparison(compared: Compared) -> str:
    """The page."""
    comparison, plan = compared.comparison, compared.comparison.variants[0].plan
    summary = compared.summary
    named = [{**told, "name": one.name} for told, one in zip(summary["variants"], compared.variants, strict=True)]
    cards = _cards(compared)
    if not plan.job.no_thumbnails:
        rows = [row for card in cards if (row := card["row"]) is not None]
        pictures = thumbnails(rows)
        for card in cards:
            card["picture"] = pictures.get((card["image"], card["page"]))
    best = compared.choice.best if compared.choice else None
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            summary={**summary, "variants": named},
            labelled=compared.choice is not None,
            best=None if best is None else compared.variants[best].name,
            picture=_picture(named, best),
            cards=cards,
            differing=len(compared.differing),
            keys=len(compared.keys),
            fields=[name for name, _ in compared.fields],
            prompts=comparison.choices.prompts if len(comparison.choices.prompts) > 1 else (),
            truth=comparison.choices.truth,
            schema=plan.schema.name if plan.schema else None,
            simulated=plan.simulated,
            source=comparison.listing.source,
            job=plan.name,
            run_id=comparison.run_id,
        )
    )


def _cards(compared: Compared) -> list[dict[str, Any]]:
    """Images where not all are right, with the fields that are not."""
    cards = []
    for at in compared.differing[:CARDS]:
        image, page = compared.keys[at]
        rows = [one.sheet.rows[at] for one in compared.variants]
        row = next((row for row in rows if row is not None), None)
        name = (row or {}).get("name") or image.rpartition("/")[2]
        cards.append(
            {"image": image, "page": page, "name": name, "row": row, "picture": None, "lines": _lines(compared, at)}
        )
    return cards


def _lines(compared: Compared, at: int) -> list[dict[str, Any]]:
    """The fields of one image that not every variant has right, each with its label and what the variants say."""
    label = (compared.comparison.labels or {}).get(compared.keys[at], {})
    lines = [
        {
            "field": name,
            "label": shortened(label.get(name)),
            "cells": [_cell(one, name, at) for one in compared.variants],
        }
        for name, _ in compared.fields
    ]
    return [line for line in lines if any(cell["state"] == "wrong" for cell in line["cells"])]


def _cell(variant: Any, name: str, at: int) -> dict[str, Any]:
    row, told = variant.sheet.rows[at], variant.sheet.fields[name][at]
    if row is None or row["status"] != "ok":
        state = "right" if row is not None and row["status"] in UNSCORED else "wrong"
        return {"state": state, "error": "no such page" if row is None else row["status"], "value": None}
    state = "wrong" if told is not None and told.wrong else "right"
    return {"state": state, "error": None, "value": shortened(answer_of(row).get(name))}


def shortened(value: Any) -> Any:
    """A value of bearable length: the first items and letters."""
    if isinstance(value, str) and len(value) > CHARACTERS:
        return f"{value[:CHARACTERS]}…"
    if isinstance(value, list):
        return [shortened(one) for one in value[:ITEMS]]
    if isinstance(value, Mapping) and corners(value) is None:
        return {name: shortened(one) for name, one in value.items()}
    return value


def _picture(variants: Sequence[Mapping[str, Any]], best: int | None) -> Picture | None:
    """None where fewer than two variants have a price and a score."""
    known = [
        (at, one["cost_usd_per_1000"], one["score"] if one["score"] is not None else one.get("agreement"), one)
        for at, one in enumerate(variants)
    ]
    told = [(at, price, score, one) for at, price, score, one in known if price and score is not None]
    if len(told) < 2:
        return None
    prices = [price for _, price, _, _ in told]
    log = max(prices) > FEW_TIMES * min(prices)
    least, most = (log10(min(prices)), log10(max(prices))) if log else (0.0, max(prices))
    across = _Scale(least, most, LEFT + EDGE, WIDTH - EDGE)
    lowest = floor(10 * min(one["low"] for *_, one in told)) / 10
    up = _Scale(lowest, 1.0, HEIGHT - BELOW, EDGE / 2)
    points: list[Point] = []
    for at, price, score, one in told:
        x, y = across(log10(price) if log else price), up(score)
        while any(abs(x - other.x) < ROUND and abs(y - other.y) < ROUND for other in points):
            x -= ROUND  # beside one that would hide it
        title = f"{one['name']}: {score:.3f} ({one['low']:.3f} to {one['high']:.3f}), ${price:,.2f} per 1,000"
        points.append(Point(at + 1, x, y, up(one["low"]), up(one["high"]), at == best, title))
    steps = range(round(10 * lowest), 11)
    return Picture(
        points=points,
        scores=[Mark(up(step / 10), f"{step / 10:.1f}") for step in steps if len(steps) <= 6 or step % 2 == 0],
        prices=[Mark(across(log10(one) if log else one), f"${one:g}") for one in _round_prices(prices, log=log)],
        log=log,
    )


@dataclass(frozen=True)
class _Scale:
    """From values to places of the drawing."""

    start: float
    end: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.start) / (self.end - self.start) if self.end > self.start else 0.5
        return round(self.first + share * (self.last - self.first), 2)


def _round_prices(prices: Sequence[float], *, log: bool) -> list[float]:
    """Round amounts between the least and the most."""
    if log:
        exponents = range(floor(log10(min(prices))), ceil(log10(max(prices))) + 1)
        return [f for e in exponents for d in (1, 2, 5) if min(prices) <= (f := d * 10.0**e) <= max(prices)]
    step = 10.0 ** floor(log10(max(prices)))
    step = next(step / part for part in (1, 2, 5, 10) if max(prices) / (step / part) >= 3)
    return [round(step * number, 10) for number in range(1, floor(max(prices) / step) + 1)]
