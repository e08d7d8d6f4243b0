"""The price table: dated rates per endpoint and model (prices.toml)."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar

from config.models import model_facts
from config.user_files import ConfigError, file_of, load, typed


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens of each class, and where the figures come from.

    `up_to` and `over` bound the whole prompt of one request, cached tokens included; None means no bound.
    """

    endpoint: str
    model: str
    vendor: str
    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    source: str
    checked: date
    batch_factor: Decimal | None = None
    us_factor: Decimal | None = None
    up_to: int | None = None
    over: int | None = None

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def covers(self, prompt_tokens: int) -> bool:
        """Whether this row holds for a request with so many prompt tokens."""
        return (self.up_to is None or prompt_tokens <= self.up_to) and (self.over is None or prompt_tokens > self.over)


@cache
def price_table() -> tuple[Price, ...]:
    """Every row of prices.toml, in its order. Raises ConfigError."""
    table = load("prices")
    return tuple(_price(row, table["source"]) for row in table["price"])


def prices_of(endpoint: str, model: str) -> tuple[Price, ...]:
    """The rows of a model (or its alias) at an endpoint, one for each range of prompt sizes; empty if there is none."""
    names = {model, model_facts(model).name}
    return tuple(row for row in price_table() if row.endpoint == endpoint and row.model in names)


def _price(row: dict[str, Any], sources: dict[str, Any]) -> Price:
    endpoint = str(row.get("endpoint"))
    source = sources.get(endpoint, {})
    if not {"url", "checked"} <= source.keys():
        raise ConfigError(
            f"{file_of('prices')}: a price of {endpoint!r} needs a [source.{endpoint}] with `url` and `checked`."
        )
    dated = {**row, "source": source["url"], "checked": source["checked"]}
    return typed(Price, dated, table="prices", name=f"price of {row.get('model')} at {endpoint}")
