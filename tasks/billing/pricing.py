"""What a call costs: tokens of each class at the dated rates of the price table, in exact decimals."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any

from config.prices import Price
from tasks.errors import PriceError

MILLION = Decimal(1_000_000)
NANO_USD = Decimal("0.000000001")
# Where an answer was made; only "us" costs a factor. Models older than the choice say that there was none.
KNOWN_GEOGRAPHIES = (None, "", "global", "not_available", "us")
# Sums that gateways add beside the classes they are made of.
TOKEN_SUMS = ("total_tokens", "prompt_tokens", "completion_tokens")


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
    unpriced: str = ""  # what no price table of ours covers, in words

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def cache_write(self) -> int:
        """Tokens written to the cache, for either lifetime."""
        return self.cache_write_5m + self.cache_write_1h


def usage_of(usage: Any) -> Usage:
    """Usage from an API answer; gateways may leave out everything but input and output tokens.

    What the API may charge for and this function does not know by name goes into `unpriced`.
    """
    split = usage.cache_creation
    one_hour = (split.ephemeral_1h_input_tokens or 0) if split is not None else 0
    details = usage.output_tokens_details
    return Usage(
        input=usage.input_tokens or 0,
        output=usage.output_tokens or 0,
        cache_read=usage.cache_read_input_tokens or 0,
        cache_write_5m=max((usage.cache_creation_input_tokens or 0) - one_hour, 0),
        cache_write_1h=one_hour,
        thinking=(details.thinking_tokens or 0) if details is not None else 0,
        geo=usage.inference_geo,
        unpriced=", ".join(_charges_unknown(usage)),
    )


def _charges_unknown(usage: Any) -> list[str]:
    """Classes of tokens, tools, tiers, speeds and places that cost something else than the table says."""
    tools = usage.server_tool_use.model_dump() if usage.server_tool_use else {}
    cached = usage.cache_creation.model_extra if usage.cache_creation else {}
    unknown = [*_token_counts(usage.model_extra or {}), *_token_counts(cached or {})]
    unknown += [f"{name}={value}" for name, value in tools.items() if value]
    for name in ("service_tier", "speed"):
        if getattr(usage, name) not in (None, "standard"):
            unknown.append(f"{name}={getattr(usage, name)}")
    if usage.inference_geo not in KNOWN_GEOGRAPHIES:
        unknown.append(f"inference_geo={usage.inference_geo}")
    return unknown


def _token_counts(fields: dict[str, Any]) -> list[str]:
    return [f"{name}={n}" for name, n in fields.items() if name.endswith("_tokens") and n and name not in TOKEN_SUMS]


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


def uncached_cost(usage: Usage, prices: Iterable[Price]) -> Decimal:
    """What the same call would have cost without prompt caching."""
    return cost_usd(Usage(input=usage.prompt, output=usage.output, geo=usage.geo), prices)


def highest_cost(prompt: int, output: int, prices: Iterable[Price]) -> Decimal:
    """The most that so many tokens can cost: all of the prompt written to the cache, in the dearest place."""
    price = price_for(prompt, prices)
    dearest = max(price.input, price.cache_write_5m)
    total = (prompt * dearest + output * price.output) / MILLION * max(price.us_factor or Decimal(1), Decimal(1))
    return total.quantize(NANO_USD, rounding=ROUND_CEILING)
