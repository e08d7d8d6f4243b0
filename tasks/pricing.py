"""What a call costs: tokens of each class at the dated rates of the price table, in exact decimals."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from config.prices import Price
from tasks.errors import PriceError

MILLION = Decimal(1_000_000)
NANO_USD = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens one answer was billed for; `input` counts only what came after the last cached token, as the API does."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    thinking: int = 0
    geo: str | None = None

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def cache_write(self) -> int:
        """Tokens written to the cache, for either lifetime."""
        return self.cache_write_5m + self.cache_write_1h


def usage_of(usage: Any) -> Usage:
    """Usage from an API answer; gateways may leave out everything but input and output tokens."""
    written = usage.cache_creation_input_tokens or 0
    split = usage.cache_creation
    one_hour = split.ephemeral_1h_input_tokens or 0 if split is not None else 0
    details = getattr(usage, "output_tokens_details", None)
    return Usage(
        input=usage.input_tokens or 0,
        output=usage.output_tokens or 0,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write_5m=written - one_hour,
        cache_write_1h=one_hour,
        thinking=(details.thinking_tokens or 0) if details is not None else 0,
        geo=usage.inference_geo,
    )


def cost_usd(usage: Usage, prices: Iterable[Price], *, batch: bool = False) -> Decimal:
    """US dollars for one call, rounded to a billionth of a dollar (half to even); PriceError if no row covers it."""
    price = price_for(usage.prompt, prices)
    total = (
        usage.input * price.input
        + usage.output * price.output
        + usage.cache_read * price.cache_read
        + usage.cache_write_5m * price.cache_write_5m
        + usage.cache_write_1h * price.cache_write_1h
    ) / MILLION
    if batch:
        if price.batch is None:
            raise PriceError(f"{price.model} at {price.endpoint} has no batch price in config/prices.toml.")
        total *= price.batch
    if usage.geo == "us" and price.us is not None:
        total *= price.us
    return total.quantize(NANO_USD, rounding=ROUND_HALF_EVEN)


def price_for(prompt_tokens: int, prices: Iterable[Price]) -> Price:
    """The row that covers a prompt of this size."""
    for price in prices:
        if price.covers(prompt_tokens):
            return price
    raise PriceError(f"No price covers a prompt of {prompt_tokens:,} tokens. Complete the model in config/prices.toml.")


def uncached_cost(usage: Usage, prices: Iterable[Price]) -> Decimal:
    """What the same call would have cost without prompt caching."""
    return cost_usd(Usage(input=usage.prompt, output=usage.output, geo=usage.geo), prices)
