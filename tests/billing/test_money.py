"""Amounts as people write them, in dollars and yuan."""

from decimal import Decimal

from tasks.billing.pricing import cny, usd


def test_dollars_keep_every_digit() -> None:
    assert usd(Decimal("1234.187214000")) == "$1,234.187214"
    assert usd(Decimal("0.000000001")) == "$0.000000001"
    assert usd(Decimal(3)) == "$3.00"
    assert usd(Decimal("-0.0125")) == "-$0.0125"


def test_a_float_is_the_number_that_it_prints_as() -> None:
    assert usd(0.0034261) == "$0.0034261"
    assert usd(1e-9) == "$0.000000001"
    assert usd(0.1 + 0.2, places=4) == "$0.30000000000000004"


def test_yuan_are_rounded() -> None:
    assert cny(Decimal("1.314165158")) == "¥1.3142"
    assert cny(0.02405019) == "¥0.0241"
