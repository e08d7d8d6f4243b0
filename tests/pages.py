"""The pages for users as tests read them: sections, code blocks, and the cells of tables."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Every page for users; the benchmark's own has figures alone.
ROOMS = ["flows", "config", "deployments", "tasks"]
ROOMS += [f"tasks/{room}" for room in ("recording", "preparing", "billing", "simulator")]
DOCUMENTS = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / room / "README.md" for room in ROOMS))
}
README = DOCUMENTS[ROOT / "README.md"]
MANUAL = "\n".join(DOCUMENTS.values())
CODE = ("config", "tasks", "flows")


def section(title: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", without_code(), re.MULTILINE | re.DOTALL)
    assert found, f"no README has a section {title!r}"
    return found[1]


@cache
def without_code() -> str:
    """All pages with their code blocks left out, whose comments look like headings."""
    return without_blocks(MANUAL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The code blocks of a language; the plain ones for an empty name."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of each row of the Markdown tables in a text, without the headings."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    for row, below in pairwise([*rows, ""]):
        if not (is_ruler(row) or is_ruler(below)):
            yield [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def is_ruler(row: str) -> bool:
    """Whether this is the line under a table's headings."""
    return bool(row) and set(row) <= set("|- ")


def first_cells(title: str) -> list[str]:
    """What stands in code style in the first column of a section's tables."""
    return [word for row in table_rows(section(title)) for word in re.findall(r"`([^`]+)`", row[0])]
