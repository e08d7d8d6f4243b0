"""Prices that do not depend on what was kept, and what a second reading is worth by labels."""

from decimal import Decimal
from typing import Any

import pytest

from config.prices import prices_of
from tasks.billing.pricing import price_for
from tasks.scoring.scores import Spent, calibration, mark, price_per_1000
from tests.scoring import receipt, scored_fields

PRICES = prices_of("anthropic", "claude-haiku-5-5")


def priced(image: str, usd: str, **more: Any) -> dict[str, Any]:
    tokens = {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 0, "cache_write_tokens": 0}
    return {"image": image, "status": "ok", "cost_usd": Decimal(usd), **tokens, **more}


def test_a_kept_answer_costs_what_its_tokens_do_and_one_that_was_paid_what_was_paid() -> None:
    price = price_for(1000, PRICES)
    listed = (1000 * price.input + 100 * price.output) / 1_000_000
    kept = price_per_1000([priced("a", "0"), priced("b", "0")], PRICES, Spent(online=True))
    assert kept.online == listed * 1000 and kept.batch == listed * 500
    twice = price_per_1000([priced("a", str(2 * listed)), priced("b", "0")], PRICES, Spent(online=True))
    assert twice.online == listed * 1500, "a call that was repeated counts"
    batched = price_per_1000([priced("a", str(listed / 2)), priced("b", "0")], PRICES, Spent(online=False))
    assert batched == kept


def test_what_was_not_asked_tells_nothing_of_the_price() -> None:
    rows = [priced("a", "0.002"), {**priced("b", "0"), "status": "unasked", "input_tokens": None}]
    assert price_per_1000(rows, PRICES, Spent(online=True)).online == 2
    assert price_per_1000(rows[1:], PRICES, Spent(online=True)).online is None
    assert price_per_1000(rows, (), Spent(online=True)).online is None


def test_a_second_reading_is_in_the_price() -> None:
    rows = [priced("a", "0"), priced("b", "0")]
    assert price_per_1000(rows, PRICES, Spent(True, Decimal("0.01"))).online == 5
    assert price_per_1000(rows, PRICES, Spent(False, Decimal("0.01"))).online == 10


def test_by_labels_agreement_tells_what_share_of_the_rest_is_right() -> None:
    """Of forty rows ten are flagged, with four of the five that are wrong."""
    labels = {(str(number), 1): receipt(number) for number in range(41)}
    rows: dict[Any, Any] = {}
    for number, (key, label) in enumerate(labels.items()):
        result = {**label, "total": "0.01"} if number < 5 else label
        rows[key] = {"status": "ok", "result": result, "needs_review": 1 <= number <= 10}
    rows["40", 1] = {"status": "refused", "result": None, "needs_review": None}
    found = calibration(mark(scored_fields(), list(labels), labels, rows))
    assert found is not None
    told = found.described
    assert (told["rows"], told["flagged"], told["errors_caught"]) == (40, 0.25, 0.8)
    assert told["right"] == pytest.approx(29 / 30) and told["low"] < 29 / 30 < told["high"]
    for row in rows.values():
        row["needs_review"] = None
    assert calibration(mark(scored_fields(), list(labels), labels, rows)) is None
