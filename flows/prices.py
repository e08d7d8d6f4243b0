"""`visionflow prices`: the price table as it is used."""

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from config.prices import Price, price_table


def print_prices(*, as_json: bool) -> None:
    """Every rate, where it comes from and when it was checked."""
    if as_json:
        sys.stdout.write(json.dumps([asdict(price) for price in price_table()], default=str) + "\n")
        return
    table = Table(
        title="US dollars per million tokens", title_justify="left", box=None, header_style="bold", pad_edge=False
    )
    table.add_column("model", no_wrap=True)
    table.add_column("endpoint")
    table.add_column("vendor")
    for name in ("in", "out", "write", "read", "batch"):
        table.add_column(name, justify="right")
    for price in price_table():
        table.add_row(_model(price), price.endpoint, price.vendor, *_rates(price))
    console = Console(highlight=False)
    console.print(table)
    checked = {(price.endpoint, price.checked, price.source) for price in price_table()}
    for endpoint, day, source in sorted(checked):
        console.print(f"{endpoint}: checked {day}, {source}", style="dim", soft_wrap=True)
    console.print("write: 5-minute cache. batch: factor of Message Batches. Edit config/prices.toml.", style="dim")


def _model(price: Price) -> str:
    if price.up_to is not None:
        return f"{price.model} ≤{price.up_to // 1000}k"
    if price.over is not None:
        return f"{price.model} >{price.over // 1000}k"
    return price.model


def _rates(price: Price) -> list[str]:
    rates = (price.input, price.output, price.cache_write_5m, price.cache_read, price.batch)
    return [str(rate) if rate is not None else "-" for rate in rates]
