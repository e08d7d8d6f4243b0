"""A value that fits a schema: what is known where it fits, otherwise the emptiest value the schema permits."""

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from tasks.simulator.fields import Facts
from tasks.simulator.schema_rules import target_of

EMPTY: dict[str, Any] = {"string": "", "number": 0, "integer": 0, "boolean": False, "null": None}
# No format admits an empty string, so the emptiest value that each does admit stands for "not known".
EMPTY_FORMATS = {
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "date-time": "1970-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "unknown@example.invalid",
    "hostname": "example.invalid",
    "uri": "about:blank",
    "ipv4": "192.0.2.0",
    "ipv6": "::",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
MAX_ITEMS = 100
UNTELLING = (None, "", "unknown", "unclear", "other", "none")
# Tried in turn where a pattern does not admit the empty string.
SAMPLES = [character * length for length in range(1, 21) for character in "0Aa"] + [
    "1970-01-01",
    "00:00",
    "0.00",
    "A-0",
    "A0",
    "AAA-000",
    "AA-0000",
    "http://example.invalid",
]


def fill(schema: Mapping[str, Any], facts: Facts) -> Any:
    """The value for a whole schema."""
    return _Filler(schema).value(schema, "", facts)


class _Filler:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def value(self, schema: Any, name: str, facts: Facts) -> Any:
        """The value for a field of this name."""
        if not isinstance(schema, dict):
            return None
        if "$ref" in schema:
            return self.value(target_of(self._root, schema["$ref"]), name, facts)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return _chosen(schema["enum"], facts.known(name))
        if "allOf" in schema:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.value(_merged([rest, *schema["allOf"]]), name, facts)
        branches = _branches(schema)
        if branches:
            return self._any_of(branches, name, facts)
        return self._typed(schema, name, facts)

    def _any_of(self, branches: list[Any], name: str, facts: Facts) -> Any:
        """The branch that takes what is known; null where nothing is and null is allowed; the first otherwise."""
        for branch in branches:
            if self._knows(branch, name, facts):
                return self.value(branch, name, facts)
        if any(self._resolved(branch).get("type") == "null" for branch in branches):
            return None
        return self.value(branches[0], name, facts)

    def _knows(self, schema: Any, name: str, facts: Facts) -> bool:
        """Whether the value is another than where nothing is known."""
        return bool(self.value(schema, name, facts) != self.value(schema, "", Facts()))

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        while isinstance(schema, dict) and "$ref" in schema:
            schema = target_of(self._root, schema["$ref"])
        return schema if isinstance(schema, dict) else {}

    def _typed(self, schema: Mapping[str, Any], name: str, facts: Facts) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if kind == "object":
            properties = schema.get("properties", {})
            required = [key for key in schema.get("required", []) if key in properties]
            # The API puts required properties first; what need not be there is there if it is known.
            part = facts.of_part(name)
            known = [key for key in properties if key not in required and self._knows(properties[key], key, part)]
            return {key: self.value(properties[key], key, part) for key in [*required, *known]}
        if kind == "array":
            return self._array(schema, name, facts)
        known = _as_type(kind, facts.known(name), schema)
        if known is not None:
            return known
        return _empty_string(schema) if kind == "string" else EMPTY.get(kind)

    def _array(self, schema: Mapping[str, Any], name: str, facts: Facts) -> list[Any]:
        known = facts.known(name)
        inner = schema.get("items", {})
        if isinstance(known, str):
            known = [{"description": line} for line in facts.text.splitlines()]
        if isinstance(known, list) and known:
            item_facts = [facts.of_item(item) for item in known[:MAX_ITEMS]]
            kind = self._resolved(inner).get("type")
            if kind == "object":
                return [self.value(inner, "", item) for item in item_facts]
            if kind == "string":
                return [self.value(inner, "description", item) for item in item_facts]
        return [self.value(inner, name, Facts())] if schema.get("minItems") else []


def _empty_string(schema: Mapping[str, Any]) -> str:
    """The emptiest string that the format or pattern admits; "" where a pattern is too peculiar for the samples."""
    if "minLength" in schema.get("description", ""):
        return "unknown"  # a bound that the API does not take is told in the description, and models heed it
    if "format" in schema:
        return EMPTY_FORMATS.get(schema["format"], "")
    pattern = schema.get("pattern")
    if pattern is None:
        return ""
    return next((sample for sample in ["", *SAMPLES] if re.search(pattern, sample)), "")


def _branches(schema: Mapping[str, Any]) -> list[Any]:
    if "anyOf" in schema:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return [_merged([rest, branch]) if "$ref" not in branch else branch for branch in schema["anyOf"]]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return []


def _merged(parts: list[Any]) -> dict[str, Any]:
    """One schema that asks for all that these ask for."""
    merged: dict[str, Any] = {}
    for part in parts:
        properties = {**merged.get("properties", {}), **part.get("properties", {})}
        required = [*merged.get("required", []), *part.get("required", [])]
        merged |= part
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def _chosen(values: list[Any], known: Any) -> Any:
    """The known value where it is one of these; otherwise the one that says least."""
    for value in values:
        if known is not None and str(value).casefold() == str(known).casefold():
            return value
    return next((value for value in values if value in UNTELLING), values[0])


def _as_type(kind: str, known: Any, schema: Mapping[str, Any]) -> Any:
    """A known value as this type, None when it is not one."""
    if known is None or isinstance(known, list | dict):
        return None
    if kind == "string":
        text = f"{known:.2f}" if isinstance(known, float) else str(known)
        checker = Draft202012Validator(dict(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)
        return text if not ({"pattern", "format"} & set(schema)) or checker.is_valid(text) else None
    if kind in ("number", "integer") and isinstance(known, int | float):
        return known if kind == "number" or isinstance(known, int) else None
    return None
