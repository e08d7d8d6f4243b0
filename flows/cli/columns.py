"""Tables of figures on stdout: no figure is ever folded or cut."""

import sys
from collections.abc import Sequence
from shutil import get_terminal_size

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.text import printable

UNFOLDED = 10_000  # columns, for a program or a log that reads the lines


def print_table(names: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print rows of names and figures as wide as they are; headings go on two lines where the terminal is narrow."""
    console = Console(highlight=False, width=UNFOLDED)  # rich would cut what it thinks too wide
    table = _table(names, figures, rows, title)
    if sys.stdout.isatty() and console.measure(table).maximum > get_terminal_size().columns:
        table = _table(names, [heading.replace(" ", "\n") for heading in figures], rows, title)
    console.print(table)


def _table(names: Sequence[str], figures: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in names:
        table.add_column(heading, no_wrap=True)
    for heading in figures:
        table.add_column(heading, no_wrap=True, justify="right", vertical="bottom")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
