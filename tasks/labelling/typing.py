"""A label as the schema has it, or what is wrong with it: a slip of whoever labels must not count as the model's.

Dates of a file that are written in figures are read in the order that the file itself tells: where one has a day above
12 in the first place, all of that field have the day there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any

from tasks.labelling.controls import Region, as_answered
from tasks.schemas.boxes import corners
from tasks.schemas.tree import Node
from tasks.scoring.values import canonical, collapsed, date_in, number_in, told_day_first

YES, NO = ("true", "yes", "1", "y"), ("false", "no", "0", "n")
NESTED_KINDS = {"object": "an object of fields", "list": "a list", "map": "an object"}


class Misfit(ValueError):
    """A value that no right answer could be; `field` is its path."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


@dataclass(frozen=True)
class Typing:
    """Reads values for one schema; `day_first` says of which date fields the order is known."""

    day_first: Mapping[str, bool | None]

    def value(self, node: Node, value: Any, path: str = "") -> Any:
        """The value with dates, numbers and boxes in their types. Raises Misfit."""
        if value is None or (isinstance(value, float) and value != value) or value == "":  # NaN
            return None
        if isinstance(value, list) and value and isinstance(value[0], Region):
            value = as_answered(node, value)
        if node.box:
            return self._box(value, path)
        if node.kind in NESTED_KINDS:
            return self._nested(node, _parsed(node, value, path), path)
        return self._scalar(node, value, path)

    def _nested(self, node: Node, value: Any, path: str) -> Any:
        wanted = list if node.kind == "list" else Mapping
        if not isinstance(value, wanted):
            raise Misfit(path, f"{_short(value)} is not {NESTED_KINDS[node.kind]}, as the schema has it")
        if isinstance(value, list):
            return [self.value(node.only, one, path) for one in value]
        if node.kind == "map":
            return {str(key): self.value(node.only, one, path) for key, one in value.items()}
        known = {child.name: child.node for child in node.properties}
        for name in value:
            if name not in known:
                raise Misfit(_joined(path, name), f"the schema has no such field{_did_you_mean(name, known)}")
        return {name: self.value(known[name], one, _joined(path, name)) for name, one in value.items()}

    def _scalar(self, node: Node, value: Any, path: str) -> Any:
        if node.kind not in ("json", "union") and isinstance(value, Mapping | list):
            raise Misfit(path, f"{_short(value)} is not one value, as the schema has it")
        match node.kind:
            case "date":
                return self._date(value, path)
            case "integer" | "number" | "decimal":
                return _number(value, path)
            case "boolean":
                return _boolean(value, path)
            case "enum":
                return _one_of(node.values, value, path)
        return value

    def _date(self, value: Any, path: str) -> date:
        if isinstance(value, datetime):
            return value.date()
        if isinstance(value, date):
            return value
        found = date_in(collapsed(str(value)), day_first=self.day_first.get(path))
        if found is None:
            raise Misfit(path, f"{_short(value)} is no date that can be told for sure. Write it as 2026-01-31")
        return found

    def _box(self, value: Any, path: str) -> Any:
        box = corners(json.loads(value) if isinstance(value, str) and _is_json(value) else value)
        if box is None:
            raise Misfit(path, f"{_short(value)} is no box: left, top, right, bottom in pixels of the original")
        left, top, width, height = box
        return {"left": left, "top": top, "right": left + width, "bottom": top + height}


def typing_of(node: Node, labels: Iterable[Any]) -> Typing:
    """What the labels tell together of the order of day and month in each field."""
    told: dict[str, set[bool]] = {}
    for label in labels:
        for path, text in _texts(node, label, ""):
            if (first := told_day_first(collapsed(text))) is not None:
                told.setdefault(path, set()).add(first)
    return Typing({path: orders.pop() if len(orders) == 1 else None for path, orders in told.items()})


def _texts(node: Node, value: Any, path: str) -> Iterable[tuple[str, str]]:
    if node.kind == "date" and isinstance(value, str):
        yield path, value
    elif node.kind == "list" and isinstance(value, list):
        for one in value:
            yield from _texts(node.only, one, path)
    elif node.kind == "object" and isinstance(value, Mapping):
        for child in node.properties:
            yield from _texts(child.node, value.get(child.name), _joined(path, child.name))


def _parsed(node: Node, value: Any, path: str) -> Any:
    """Lists and objects stand in a cell of a table as JSON; one item may stand for a list; Arrow has maps as pairs."""
    if isinstance(value, str) and _is_json(value):
        value = json.loads(value)
    if node.kind == "list" and not isinstance(value, list):
        return [value] if isinstance(value, Mapping) or node.only.kind not in NESTED_KINDS else value
    if isinstance(value, str):
        raise Misfit(path, f"{_short(value)} is not {NESTED_KINDS[node.kind]}, as the schema has it. Write it as JSON")
    if node.kind == "map" and isinstance(value, list):
        return dict(value)
    return value


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _number(value: Any, path: str) -> Any:
    number = number_in(collapsed(value), amount=True) if isinstance(value, str) else canonical(value)
    if number is None or isinstance(value, bool):
        raise Misfit(path, f"{_short(value)} is no number. Write it as 1234.50")
    return number


def _boolean(value: Any, path: str) -> bool:
    said = str(value).strip().casefold()
    if said not in YES + NO:
        raise Misfit(path, f"{_short(value)} is neither true nor false")
    return said in YES


def _one_of(values: tuple[Any, ...], value: Any, path: str) -> Any:
    for one in values:
        if canonical(one) == canonical(value):
            return one
    allowed = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    raise Misfit(path, f"{_short(value)} is none of the schema's values ({allowed})")


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    alike = get_close_matches(str(name), list(names), n=1)
    return f". Did you mean {alike[0]}" if alike else f". It has: {', '.join(names)}"


def _joined(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
