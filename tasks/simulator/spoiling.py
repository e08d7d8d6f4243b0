"""How an answer is made wrong: each value for itself, so that a share of cells is wrong that is known beforehand."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from tasks.schemas.boxes import corners
from tasks.scoring.values import collapsed, date_in, number_in
from tasks.simulator.fields import Facts
from tasks.simulator.fill import fill
from tasks.simulator.schema_rules import resolve

Misses = Callable[[str], bool]  # whether the value at a path of the answer is to be wrong
DIGITS, LOWER, UPPER = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def chance(*parts: object) -> float:
    """A number from 0 to 1 that is always the same for the same parts."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Spoiler:
    """Writes a label as an answer to a schema; null stays null, so that what is wrong is wrong in a value."""

    def __init__(self, schema: Mapping[str, Any], misses: Misses, scale: tuple[float, float]) -> None:
        self._root = schema
        self._misses = misses
        self._scale = scale  # from pixels of the original to those of the image as sent

    def answer(self, label: Mapping[str, Any]) -> Any:
        """The whole answer."""
        return self._value(self._root, label, "$")

    def _value(self, schema: Any, label: Any, path: str) -> Any:
        schema = self._chosen(schema, label)
        if schema.get("type") == "object" or "properties" in schema:
            return self._object(schema, label if isinstance(label, Mapping) else {}, path)
        if schema.get("type") == "array":
            items = label if isinstance(label, list) else []
            return [self._value(schema.get("items", {}), one, f"{path}[{at}]") for at, one in enumerate(items)]
        if label is None or schema.get("type") == "null":
            return None if schema.get("type") == "null" else fill(schema, Facts())
        if "enum" in schema:
            return self._one_of(schema["enum"], label, path)
        return self._scalar(schema, label, path)

    def _chosen(self, schema: Any, label: Any) -> dict[str, Any]:
        """The schema itself, or of several types the one that takes the label."""
        while isinstance(schema, dict) and "$ref" in schema:
            schema = resolve(self._root, schema["$ref"])
        branches = schema.get("anyOf") if isinstance(schema, dict) else None
        if not branches:
            return schema if isinstance(schema, dict) else {}
        kinds = [self._chosen(branch, label) for branch in branches]
        nulls = [kind for kind in kinds if kind.get("type") == "null"]
        return nulls[0] if label is None and nulls else next(kind for kind in kinds if kind.get("type") != "null")

    def _object(self, schema: Mapping[str, Any], label: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties, box = schema.get("properties", {}), corners(label)
        if box is not None and {"left", "top", "right", "bottom"} <= set(properties):
            return self._box(box, path)
        wanted = [name for name in properties if name in schema.get("required", ()) or label.get(name) is not None]
        return {name: self._value(properties[name], label.get(name), f"{path}.{name}") for name in wanted}

    def _box(self, box: tuple[float, float, float, float], path: str) -> dict[str, int]:
        """The box as the model sees it; a wrong one stands beside, so that the two share nothing."""
        left, top, width, height = box
        if self._misses(path):
            left = left - width if left >= width else left + width
        across, down = self._scale
        sides = {"left": left * across, "top": top * down}
        sides |= {"right": (left + width) * across, "bottom": (top + height) * down}
        return {side: max(0, round(value)) for side, value in sides.items()}

    def _one_of(self, values: list[Any], label: Any, path: str) -> Any:
        right = next((value for value in values if str(value) == str(label)), values[0])
        others = [value for value in values if value not in (right, None)]
        return others[int(chance(path, label) * len(others))] if others and self._misses(path) else right

    def _scalar(self, schema: Mapping[str, Any], label: Any, path: str) -> Any:
        miss = self._misses(path)
        kind, text = schema.get("type"), collapsed(str(label))
        if kind == "boolean":
            return (text.casefold() in ("true", "yes", "1")) != miss
        if kind in ("integer", "number"):
            number = float(number_in(text, amount=True) or 0) + miss
            return int(number) if kind == "integer" else number
        if schema.get("format") == "date":
            day = label if isinstance(label, date) else date_in(text, day_first=True)
            return text if day is None else str(day + timedelta(days=int(miss)))
        if number_in(text) is None and (amount := number_in(text, amount=True)) is not None:
            text = f"{amount:f}"  # a model gives the number alone where one is asked for
        return spoilt(text) if miss else text


def spoilt(text: str) -> str:
    """The text with one letter or digit, in a place that depends on the text, replaced by the next of its kind."""
    places = [at for at, one in enumerate(text) if one in DIGITS + LOWER + UPPER]
    if not places:
        return f"{text}x"
    at = places[int(chance("place", text) * len(places))]
    kind = next(kind for kind in (DIGITS, LOWER, UPPER) if text[at] in kind)
    # Never a zero in front, which would be the text of another number or of none.
    following = kind[(kind.index(text[at]) + 1) % len(kind)]
    return f"{text[:at]}{'1' if following == '0' else following}{text[at + 1 :]}"
