"""Amounts as people read them: dollars to their last digit, yuan, which follow from the dollars, rounded."""

from decimal import Decimal

Amount = Decimal | float


def usd(amount: Amount, places: int = 2) -> str:
    """Dollars to the last digit, with at least so many decimals."""
    return _written(_decimal(amount), "$", places)


def cny(amount: Amount, places: int = 2) -> str:
    """Yuan, rounded to a hundredth of a fen."""
    return _written(round(_decimal(amount), 4), "¥", places)


def _decimal(amount: Amount) -> Decimal:
    """The amount; of a float the shortest number that it stands for."""
    return Decimal(str(amount))


def _written(amount: Decimal, sign: str, places: int) -> str:
    whole, _, part = f"{abs(amount):,f}".partition(".")
    return f"{'-' if amount < 0 else ''}{sign}{whole}.{part.rstrip('0').ljust(places, '0')}"
