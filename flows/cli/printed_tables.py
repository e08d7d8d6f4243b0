"""Tables of figures on stdout, none folded or cut; `visionflow prices`: the price table as it is used."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from shutil import get_terminal_size

from rich.console import Console
from rich.table import Table
from rich.text import Text

from config.prices import Price, price_table
from config.user_files import file_of
from flows.cli.jobs import check_configuration
from tasks.text import printable

UNFOLDED = 10_000  # columns, for a program or a log that reads the lines

FIGURES = ("input", "output", "cache write", "cache read", "batch")


def print_table(names: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print rows of names and figures as wide as they are; headings go on two lines where the terminal is narrow."""
    console = _Console(highlight=False, width=UNFOLDED)  # rich would cut what it thinks too wide
    table = _table(names, figures, rows, title)
    if sys.stdout.isatty() and console.measure(table).maximum > get_terminal_size().columns:
        table = _table(names, [heading.replace(" ", "\n") for heading in figures], rows, title)
    console.print(table)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as it does wherever nobody reads on; rich would exit with 1."""
        raise BrokenPipeError


def _table(names: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in names:
        table.add_column(heading, no_wrap=True)
    for heading in figures:
        table.add_column(heading, no_wrap=True, justify="right", vertical="bottom")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def print_prices(*, as_json: bool) -> None:
    """Every rate, where it comes from and when it was checked. Raises UsageError for a table that cannot be used."""
    check_configuration()
    prices = price_table()
    if as_json:
        sys.stdout.write(json.dumps([asdict(price) for price in prices], default=str) + "\n")
        return
    rows = [(_model(price), price.endpoint, price.vendor, *_rates(price)) for price in prices]
    print_table(("model", "endpoint", "vendor"), FIGURES, rows, title="US dollars per million tokens")
    notes = [
        f"{endpoint}: checked {day}, {source}"
        for endpoint, day, source in sorted({(price.endpoint, price.checked, price.source) for price in prices})
    ]
    notes += ["cache write: for 5 minutes; --json has 1 hour too. batch: factor of Message Batches."]
    notes += [f"Edit {file_of('prices')}, or add a prices.toml of your own (README: Your own tables)."]
    sys.stdout.write("\n".join(notes) + "\n")


def _model(price: Price) -> str:
    if price.up_to is not None:
        return f"{price.model} ≤{price.up_to // 1000}k"
    if price.over is not None:
        return f"{price.model} >{price.over // 1000}k"
    return price.model


def _rates(price: Price) -> list[str]:
    rates = (price.input, price.output, price.cache_write_5m, price.cache_read, price.batch_factor)
    return [str(rate) if rate is not None else "-" for rate in rates]
