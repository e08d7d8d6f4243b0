"""An answer's text becomes a value that keeps the user's schema, or the reasons why it does not."""

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from pydantic import BaseModel
from pydantic import ValidationError as ModelError

from tasks.schemas.arrow import arrow_type, holds_json, json_text, plain, scalar
from tasks.schemas.boxes import ANSWER, EVIDENCE, Box, Transform, entries_of, evidence_api, map_boxes
from tasks.schemas.enforcing import LONGEST_ANSWER, TooMuch, bounded, spend
from tasks.schemas.translation import Plan
from tasks.schemas.tree import Node

MOST_ERRORS = 20
LONGEST_REASON = 300
LONGEST_KEY = 60
DEEPEST = 100  # arrays and objects in one another: what reads an answer calls itself for each, and Python sets a limit
TOO_DEEP = f"more than {DEEPEST} arrays and objects in one another"
TAKEN = {
    "object": dict,
    "list": list,
    "map": dict,
    "text": str,
    "date": str,
    "timestamp": str,
    "boolean": bool,
    "integer": int | Decimal,
    "number": int | Decimal,
    "decimal": str | int | Decimal,
}
TEXT = Node("text", True, {})
NUMBER = Node("number", True, {})


@dataclass(frozen=True)
class Fitted:
    """A value as Arrow takes it, or the reasons, each with its path, why the answer does not fit."""

    value: dict[str, Any] | None
    errors: list[str]
    code: str = "schema"  # `too_complex`: checking the answer would take too long
    evidence: list[tuple[str, Box]] = field(default_factory=list)  # field and box, in pixels of the sent image


@dataclass(frozen=True)
class AnswerSchema:
    """What an answer must look like: `source` as the user wrote it, `api` as it is sent, `arrow` as it is kept."""

    name: str
    source: dict[str, Any] = field(repr=False)
    api: dict[str, Any] = field(repr=False)
    arrow: pa.StructType = field(repr=False)
    digest: str
    boxes: tuple[str, ...]
    root: Node = field(repr=False)
    plan: Plan = field(repr=False)
    validator: Validator = field(repr=False)
    model: type[BaseModel] | None = None
    wrapped: bool = False  # the user's schema is no object, and lies in the field `value` of one
    evidence: bool = False  # the answer lies in the field `answer` of an object, its evidence beside it

    def with_evidence(self) -> "AnswerSchema":
        """The same, asked for where each value was read."""
        return replace(self, api=evidence_api(self.api, self.root), evidence=True)

    def fit(self, text: str) -> Fitted:
        """Read an answer, enforce the user's own schema on it and turn it into Arrow's types; nothing is let pass."""
        if len(text) > LONGEST_ANSWER:
            return Fitted(None, [f"$: more than {LONGEST_ANSWER:,} characters"], "too_complex")
        try:
            with bounded():
                value, errors, entries = self._fit(text)
        except TooMuch as error:
            return Fitted(None, [f"$: {error}"], "too_complex")
        except RecursionError:
            return Fitted(None, [f"$: {TOO_DEEP}"], "too_complex")
        if errors:
            return Fitted(None, [error[:LONGEST_REASON] for error in errors[:MOST_ERRORS]])
        return Fitted(value, [], evidence=entries)

    def _fit(self, text: str) -> tuple[Any, list[str], list[tuple[str, Box]]]:
        try:
            answer = parse_json(text)
        except ValueError as error:
            return None, [f"$: no JSON: {error}"], []
        entries: list[tuple[str, Box]] = []
        if self.evidence:
            if not isinstance(answer, dict) or ANSWER not in answer:
                return None, [f"$: {ANSWER!r} is a required property"], []
            answer, entries = answer[ANSWER], entries_of(answer.get(EVIDENCE))
        errors: list[str] = []
        value = Fitting(self, errors).restore(self.root, answer, "$")
        if not errors:
            errors += self._violations(value)
        if not errors:
            value = Fitting(self, errors).convert(self.root, value, "$")
        return value, errors, entries

    def map_boxes(self, value: dict[str, Any], transform: Transform) -> dict[str, Any]:
        """A fitted value with its boxes in pixels of the original instead of the sent image."""
        mapped: dict[str, Any] = map_boxes(self.root, value, transform)
        return mapped

    def _violations(self, value: Any) -> list[str]:
        if self.wrapped:
            if not isinstance(value, dict) or "value" not in value:
                return ["$: 'value' is a required property"]
            value = value["value"]
        instance = plain(value)
        found = [_violation(error) for error in islice(self.validator.iter_errors(instance), MOST_ERRORS)]
        if found or self.model is None:
            return found
        try:
            self.model.model_validate(instance)
        except ModelError as error:
            return [f"{_path(one['loc'])}: {one['msg']}" for one in error.errors(include_url=False)]
        except Exception as error:  # noqa: BLE001 - the user's own validators may raise anything
            return [f"$: the model's own check failed: {type(error).__name__}: {' '.join(str(error).split())}"]
        return []


@dataclass(frozen=True)
class Fitting:
    """One answer's way from the API's form to the user's (`restore`) and on to Arrow's (`convert`)."""

    schema: AnswerSchema
    errors: list[str]

    def restore(self, node: Node, value: Any, path: str) -> Any:
        """The value as the user's schema has it: maps from their entries, absent fields left out, enums as spelt."""
        if value is None:
            return None
        match node.kind:
            case "object" if isinstance(value, dict):
                return self._restore_object(node, value, path)
            case "list" if isinstance(value, list):
                return [self.restore(node.only, one, f"{path}[{n}]") for n, one in enumerate(value)]
            case "map" if isinstance(value, dict | list):
                return self._restore_map(node, value, path)
            case "enum":
                return _spelt(node, value)
            case "json" if isinstance(value, str):
                try:
                    return parse_json(value)
                except ValueError as error:
                    self.errors.append(f"{path}: no JSON text: {error}")
            case "union":
                return self._choose(node, value, path)[1]
        return value

    def convert(self, node: Node, value: Any, path: str) -> Any:
        """A valid value in Arrow's types; what they cannot hold becomes an error."""
        if value is None:
            return None
        try:
            if holds_json(node):
                return scalar(TEXT, json_text(value))
            if node.kind in TAKEN and not _is_one_of(value, TAKEN[node.kind]):
                raise ValueError(f"no {node.kind}")  # `properties` and `items` alone let other types pass
            match node.kind:
                case "object":
                    named = ((child, f"{path}.{child.name}") for child in node.properties)
                    return {child.name: self.convert(child.node, value.get(child.name), at) for child, at in named}
                case "list":
                    if node.box and (len(value) != 4 or None in value):
                        raise ValueError(f"a box has 4 numbers, not {len(value) - value.count(None)}")
                    return [self.convert(node.only, one, f"{path}[{n}]") for n, one in enumerate(value)]
                case "map":
                    return [
                        (scalar(TEXT, key), self.convert(node.only, one, f"{path}[{shown(key)}]"))
                        for key, one in value.items()
                    ]
                case "union":
                    return self._convert_union(node, value, path)
                case _:
                    return scalar(node, value)
        except ValueError as error:
            self.errors.append(f"{path}: {error}")
            return None

    def _restore_object(self, node: Node, value: dict[str, Any], path: str) -> dict[str, Any]:
        known = {child.name for child in node.properties}
        self.errors.extend(f"{path}: {name!r} is no field of the schema" for name in value if name not in known)
        restored: dict[str, Any] = {}
        for child in node.properties:
            found = value.get(child.name)
            empty = self.schema.plan[id(child)] == "empty" and found in ("", [], {})
            if found is None or empty:
                if child.node.nullable and (child.name in value or child.required):
                    restored[child.name] = None
                elif child.name in value and child.required:
                    restored[child.name] = found
            else:
                restored[child.name] = self.restore(child.node, found, f"{path}.{child.name}")
        return restored

    def _restore_map(self, node: Node, value: dict[str, Any] | list[Any], path: str) -> Any:
        if isinstance(value, dict):  # an endpoint without structured outputs answers in the user's own form
            return {key: self.restore(node.only, one, f"{path}[{shown(key)}]") for key, one in value.items()}
        restored: dict[str, Any] = {}
        for n, entry in enumerate(value):
            if not isinstance(entry, dict) or entry.keys() != {"key", "value"} or not isinstance(entry["key"], str):
                self.errors.append(f"{path}[{n}]: no entry with a key and a value")
            elif entry["key"] in restored:
                self.errors.append(f"{path}[{n}]: the key {entry['key']!r} stands there twice")
            else:
                restored[entry["key"]] = self.restore(node.only, entry["value"], f"{path}[{shown(entry['key'])}]")
        return restored

    def _choose(self, node: Node, value: Any, path: str) -> tuple[Node | None, Any]:
        """The first variant that the value fits, and the value as that variant has it."""
        for variant in node.variants:
            spend(1)
            trial: list[str] = []
            restored = Fitting(self.schema, trial).restore(variant, value, path)
            if not trial and self.schema.validator.evolve(schema=variant.schema).is_valid(plain(restored)):
                return variant, restored
        return None, value

    def _convert_union(self, node: Node, value: Any, path: str) -> Any:
        variant = self._choose(node, value, path)[0]
        if variant is None:
            raise ValueError("fits none of the types")
        if arrow_type(node) == pa.string():
            return scalar(TEXT, value)  # a date beside other texts stays text
        if arrow_type(node) == pa.float64():
            return scalar(NUMBER, value)
        return self.convert(variant, value, path)


def parse_json(text: str) -> Any:
    """Strict JSON, its fractions as Decimal.

    Raises ValueError, also for NaN, for a name that stands twice and for more than DEEPEST values in one another.
    """
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except ArithmeticError:  # an exponent of twenty digits
        raise ValueError("a number too large for any") from None
    level, depth = _containers([value]), 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        level = [inner for outer in level for inner in _containers(outer)]
    return value


def _is_one_of(value: Any, types: Any) -> bool:
    return isinstance(value, types)


def shown(key: str) -> str:
    """A key of an answer in a path; a long one's beginning, as every path below it repeats it."""
    return repr(key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}...")


def _containers(of: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    values = of.values() if isinstance(of, dict) else of
    return [value for value in values if isinstance(value, dict | list)]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _spelt(node: Node, value: Any) -> Any:
    """The enum's own spelling of a value: the API does not promise its capitalisation."""
    if not isinstance(value, str) or value in node.values:
        return value
    spend(1 + len(node.values) // 10)
    same = [one for one in node.values if isinstance(one, str) and one.casefold() == value.casefold()]
    return same[0] if len(same) == 1 else value


def _violation(error: ValidationError) -> str:
    deepest = best_match(error.context) if error.context else None
    why = f" ({deepest.json_path}: {deepest.message})" if deepest is not None else ""
    return f"{error.json_path}: {error.message[:LONGEST_REASON]}{why}"


def _path(location: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
