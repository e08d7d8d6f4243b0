"""What a call costs: tokens of each class at the dated rates of the price table, in exact decimals."""

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from config.prices import Price
from tasks.billing.usage import Usage
from tasks.errors import PriceError

MILLION = Decimal(1_000_000)
NANO_USD = Decimal("0.000000001")


def cost_usd(usage: Usage, prices: Iterable[Price], *, batch: bool = False) -> Decimal:
    """US dollars for one call, rounded to a billionth of a dollar (half to even); PriceError if no row covers it."""
    if usage.unpriced:
        raise PriceError(f"The answer charges for something without a price: {usage.unpriced}. The run stops here.")
    price = price_for(usage.prompt, prices)
    total = (
        usage.input * price.input
        + usage.output * price.output
        + usage.cache_read * price.cache_read
        + usage.cache_write_5m * price.cache_write_5m
        + usage.cache_write_1h * price.cache_write_1h
    ) / MILLION
    if batch:
        if price.batch_factor is None:
            raise PriceError(f"{price.model} at {price.endpoint} has no batch price in config/prices.toml.")
        total *= price.batch_factor
    if usage.geo == "us":
        if price.us_factor is None:
            raise PriceError(f"{price.model} at {price.endpoint} has no price for answers made in the US.")
        total *= price.us_factor
    return total.quantize(NANO_USD, rounding=ROUND_HALF_EVEN)


def price_for(prompt_tokens: int, prices: Iterable[Price]) -> Price:
    """The row that covers a prompt of this size."""
    for price in prices:
        if price.covers(prompt_tokens):
            return price
    raise PriceError(f"No price covers a prompt of {prompt_tokens:,} tokens. Complete the model in config/prices.toml.")


def uncached_cost(usage: Usage, prices: Iterable[Price], *, batch: bool = False) -> Decimal:
    """What the same call would have cost without prompt caching."""
    return cost_usd(Usage(input=usage.prompt, output=usage.output, geo=usage.geo), prices, batch=batch)


def highest_cost(prompt: int, output: int, prices: Iterable[Price], *, batch: bool = False) -> Decimal:
    """The most that so many tokens can cost: all of the prompt written to the cache, in the dearest place."""
    price = price_for(prompt, prices)
    dearest = max(price.input, price.cache_write_1h if batch else price.cache_write_5m)
    total = (prompt * dearest + output * price.output) / MILLION * max(price.us_factor or Decimal(1), Decimal(1))
    if batch and price.batch_factor is not None:
        total *= price.batch_factor
    return total.quantize(NANO_USD, rounding=ROUND_CEILING)


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
