"""Reading the TOML files that stand beside the code."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> dict[str, Any]:
    """The parsed `config/NAME.toml`, with every number kept as written."""
    return tomllib.loads(files("config").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def known(names: list[str]) -> str:
    """The names for an error message, in the order of the file."""
    return ", ".join(names)
