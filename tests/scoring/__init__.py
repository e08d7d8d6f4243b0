"""What tests of scores share: drawn receipts whose truth is known, and variants that spoil it at known rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from tasks.schemas import load_schema
from tasks.scoring.best_variant import Choice, Contestant, choose
from tasks.scoring.scores import fields_of, mark
from tasks.scoring.statistics import Scores, interval
from tasks.simulator.known import Spoiler, chance

Label = Mapping[str, Any]
SHOPS = ("Blue Heron Cafe", "Northmoor Instruments Ltd", "Orchard Street Furniture", "Kestrel Pottery")
GOODS = ("Flat white", "Blueberry muffin", "Tomato soup", "Still water", "Oak desk", "Desk lamp", "Glass slides")
HARD = 3.0  # a third of the images are hard to read: so many times more of their values go wrong


@dataclass(frozen=True)
class Rate:
    """A variant: what share of values it gets wrong in easy images, and its price."""

    name: str
    wrong: float
    usd: str


def receipt(number: int) -> Label:
    """A made-up receipt: three facts and one to six lines."""
    lines = 1 + int(chance("lines", number) * 6)
    return {
        "company": SHOPS[int(chance("shop", number) * len(SHOPS))],
        "date": f"2026-{1 + number % 12:02}-{1 + number % 28:02}",
        "total": f"{chance('total', number) * 100 + 1:.2f}",
        "items": [
            {
                "name": f"{GOODS[int(chance('goods', number, at) * len(GOODS))]} {at}",
                "price": f"{chance('price', number, at) * 10 + 1:.2f}",
            }
            for at in range(lines)
        ],
    }


@cache
def api_schema() -> Mapping[str, Any]:
    return load_schema("receipt").api


@cache
def scored_fields() -> Any:
    return fields_of(load_schema("receipt").root, [receipt(number) for number in range(20)])


def answer(label: Label, wrong: float, *what: object) -> Label:
    """The label as a variant would read it."""
    made: Label = Spoiler(api_schema(), lambda path: chance(*what, path) < wrong, (1.0, 1.0)).answer(label)
    return made


def rate_of(image: int, wrong: float) -> float:
    return min(wrong * HARD, 1.0) if chance("hard", image) < 1 / 3 else wrong


@cache
def scores(images: range, variant: Rate, seed: int) -> Scores:
    """A variant's score of each image."""
    labels = {(str(image), 1): receipt(image) for image in images}
    rows = {
        (str(image), 1): {
            "status": "ok",
            "result": answer(receipt(image), rate_of(image, variant.wrong), seed, variant.name, image),
        }
        for image in images
    }
    return mark(scored_fields(), list(labels), labels, rows).scores


@dataclass(frozen=True)
class Trials:
    """How often the right variant was chosen, and how often each interval held the true score."""

    right: int
    covered: Mapping[str, int]
    trials: int


def run_trials(variants: Sequence[Rate], right: set[str], *, images: int, trials: int, pool: int) -> Trials:
    """Draw so many samples of images and readings from a pool whose true scores are known, and choose each time."""
    read = {one.name: scores(range(pool), one, 0) for one in variants}
    true = {name: float(found.mean()) for name, found in read.items()}
    chosen, covered = 0, dict.fromkeys(read, 0)
    for seed in range(trials):
        sample = np.random.default_rng(seed).choice(pool, images, replace=False)
        contestants = [Contestant(one.name, read[one.name][sample], Decimal(one.usd)) for one in variants]
        choice: Choice = choose(contestants)
        chosen += contestants[choice.best].name in right
        for one in contestants:
            low, high = interval(one.scores)
            covered[one.name] += low <= true[one.name] <= high
    return Trials(chosen, covered, trials)
