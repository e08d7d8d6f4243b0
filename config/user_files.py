"""The TOML files that stand beside the code, and the user's own of the same name in the folder VISIONFLOW_CONFIG."""

import os
import stat
import tomllib
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NAMES = ("endpoints", "models", "presets", "prices")
UNKNOWN = "unexpected_keyword_argument"  # as pydantic calls a field that a type does not have
Row = TypeVar("Row")


class ConfigError(LookupError):
    """A configuration file cannot be used; the message names the file and what is wrong in it."""


@cache
def load(name: str) -> dict[str, Any]:
    """The parsed `config/NAME.toml` with the user's own rows over it. Raises ConfigError.

    A row of the user's replaces the fields that it names; the prices of one model at one endpoint are replaced as a
    whole, since they may be several rows.
    """
    table: dict[str, Any] = tomllib.loads(files("config").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    own = _own(name)
    if name != "prices":
        return _merged(table, own)
    rows = own.get("price", [])
    replaced = {(row.get("endpoint"), row.get("model")) for row in rows}
    kept = [row for row in table["price"] if (row["endpoint"], row["model"]) not in replaced]
    return {"source": _merged(table["source"], own.get("source", {})), "price": [*kept, *rows]}


def typed(kind: Callable[..., Row], row: dict[str, Any], *, table: str, name: str) -> Row:
    """A row as its type. Raises ConfigError for a field that is unknown, missing or wrong; tells no value."""
    from pydantic import ValidationError

    try:
        checked: Row = _adapter(kind).validate_python(row)
        return checked
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        unknown = [one for one in problems if one["type"] == UNKNOWN]  # first, for it may be why another is missing
        problem = (unknown or problems)[0]
        field = str(problem["loc"][0]) if problem["loc"] else ""
        raise ConfigError(f"{file_of(table)}: [{name}] {_explained(field, problem, kind)}.") from None


def file_of(table: str) -> str:
    """The file to correct: the user's own where there is one."""
    own = own_file(table)
    return str(own) if own else f"config/{table}.toml"


def own_file(table: str) -> Path | None:
    """The user's own file of a table, if there is one. Raises ConfigError for a folder or a name that is wrong."""
    chosen = os.environ.get("VISIONFLOW_CONFIG")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"VISIONFLOW_CONFIG: there is no folder {chosen}.")
    for path in sorted(folder.glob("*.toml")):
        if path.stem not in NAMES:
            raise ConfigError(f"{path} stands for no table. Name it one of: {', '.join(f'{n}.toml' for n in NAMES)}.")
    path = folder / f"{table}.toml"
    return path if path.is_file() else None


def known(names: list[str]) -> str:
    """The names for an error message, in the order of the file."""
    return ", ".join(names)


def _own(table: str) -> dict[str, Any]:
    path = own_file(table)
    if path is None:
        return {}
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigError(f"{path} is not TOML: {error}.") from None
    _check_shape(path, table, rows)
    return rows


def _check_shape(path: Path, table: str, rows: dict[str, Any]) -> None:
    parts, held = list(rows.values()), "[NAME] tables"
    if table == "prices":
        source, price, held = rows.get("source", {}), rows.get("price", []), "[source.NAME] and [[price]]"
        fits = rows.keys() <= {"source", "price"} and isinstance(source, dict) and isinstance(price, list)
        parts = [*source.values(), *price] if fits else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise ConfigError(f"{path} holds something else than {held}.")


def _merged(table: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    return table | {name: {**table.get(name, {}), **row} for name, row in own.items()}


def _explained(field: str, problem: Any, kind: Any) -> str:
    if problem["type"] == UNKNOWN:
        names = [one.name for one in fields(kind) if one.name not in ("name", "notice")]
        return f"there is no field {field!r}. Take {known(get_close_matches(field, names, n=3) or names)}"
    if problem["type"] == "missing":
        return f"the field {field!r} is missing"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{field} {said}" if field else said


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


MOST_BYTES = 5_000_000  # far more than a model takes, far less than a mistake such as a disk image holds


def read_text(path: str | Path) -> str:
    """The file's text, which is UTF-8.

    OSError, whose `strerror` says why: it is not there, too large, or no file but a folder, a pipe or a device, which
    might never end. ValueError: other bytes than UTF-8, or a name that no file can have.
    """
    # O_NONBLOCK: opening a pipe waits for whoever writes into it otherwise.
    descriptor = os.open(Path(path).expanduser(), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:  # noqa: PTH123  # of an open descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file but a folder, a pipe or a device")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(0, f"it has more than {MOST_BYTES / 1e6:.0f} MB, too much for a text")
    return data.decode("utf-8")
