"""What the API refuses in `output_config.format.schema`.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from tasks.simulator.catalogue import bad_request

MAX_OPTIONAL = 24
MAX_UNIONS = 16
FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"])
UNSUPPORTED = frozenset(
    [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependentRequired",
        "contains",
        "minContains",
        "maxContains",
        "prefixItems",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
    ]
)
# Lookaround, back-references and word boundaries cannot be turned into a grammar.
COMPLEX_PATTERNS = ("(?=", "(?!", "(?<", "(?P=", "\\b", "\\B", "\\1", "\\2")


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise the API's 400 for a schema that it cannot compile."""
    problem = _first_problem(json.dumps(schema, sort_keys=True))
    if problem is not None:
        raise bad_request(f"output_config.format.schema: {problem}")


@lru_cache(maxsize=256)
def _first_problem(text: str) -> str | None:
    """Why the schema is refused; remembered, because a job sends the same one with every image."""
    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"Invalid JSON schema: {error.message}"
    check = _Check(schema)
    problem = next(check.problems(schema, "$"), None) or next(check.recursions(schema, ()), None)
    if problem is not None:
        return problem
    if check.optional > MAX_OPTIONAL:
        return (
            f"Schemas contains too many optional parameters ({check.optional}), which would make grammar compilation "
            f"inefficient. Reduce the number of optional parameters in your tool schemas (limit: {MAX_OPTIONAL})."
        )
    if check.unions > MAX_UNIONS:
        return (
            f"Schemas contains too many parameters with union types ({check.unions} parameters with type arrays or "
            f"anyOf). Reduce the number of nullable or union-typed parameters (limit: {MAX_UNIONS})."
        )
    return None


@dataclass
class _Check:
    """One walk over a schema."""

    root: Mapping[str, Any]
    optional: int = 0
    unions: int = 0
    _not_recursive: set[str] = field(default_factory=set)

    def problems(self, schema: Any, path: str) -> Iterator[str]:
        """Every reason to refuse this schema and those inside it."""
        if not isinstance(schema, dict):
            return
        for keyword in sorted(UNSUPPORTED & set(schema)):
            yield f"{path}: property '{keyword}' is not supported"
        yield from self._object_problems(schema, path)
        yield from self._value_problems(schema, path)
        yield from self._reference_problems(schema, path)
        self.unions += "anyOf" in schema or isinstance(schema.get("type"), list)
        for inner, name in _children(schema):
            yield from self.problems(inner, f"{path}.{name}")

    def _object_problems(self, schema: dict[str, Any], path: str) -> Iterator[str]:
        kind = schema.get("type")
        if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
            if schema.get("additionalProperties") is not False:
                yield f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false"
            self.optional += len(set(schema.get("properties", {})) - set(schema.get("required", [])))

    def _value_problems(self, schema: dict[str, Any], path: str) -> Iterator[str]:
        if schema.get("minItems", 0) not in (0, 1):
            yield f"{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported"
        if any(isinstance(value, dict | list) for value in schema.get("enum", [])):
            yield f"{path}: enum values must be strings, numbers, booleans or null"
        if schema.get("format", "date") not in FORMATS:
            yield f"{path}: format '{schema['format']}' is not supported"
        pattern = schema.get("pattern", "")
        if any(part in pattern for part in COMPLEX_PATTERNS) or not _compiles(pattern):
            yield f"{path}: pattern uses regular expression features that are not supported"

    def _reference_problems(self, schema: dict[str, Any], path: str) -> Iterator[str]:
        if any(isinstance(part, dict) and "$ref" in part for part in schema.get("allOf", [])):
            yield f"{path}: 'allOf' with '$ref' is not supported"
        reference = schema.get("$ref")
        if reference is None:
            return
        if not reference.startswith("#"):
            yield f"{path}: external $ref '{reference}' is not supported"
        elif target_of(self.root, reference) is None:
            yield f"{path}: $ref '{reference}' cannot be resolved"

    def recursions(self, schema: Any, within: tuple[str, ...]) -> Iterator[str]:
        """Every reference that leads back to itself; `within` are those followed to get here."""
        if not isinstance(schema, dict):
            return
        reference = schema.get("$ref")
        if reference == "#" or reference in within:
            yield f"Recursive schemas are not supported: {reference}"
        elif reference is not None and reference not in self._not_recursive:
            yield from self.recursions(target_of(self.root, reference), (*within, reference))
            self._not_recursive.add(reference)
        for inner, _ in _children(schema):
            yield from self.recursions(inner, within)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def target_of(root: Mapping[str, Any], reference: str) -> Any:
    """What a reference within the schema points to; None when it points nowhere."""
    target: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        target = target.get(part) if isinstance(target, dict) else None
    return target


def _children(schema: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """The schemas directly inside this one; names of properties are not keywords."""
    for holder in ("properties", "$defs", "definitions"):
        for name, inner in schema.get(holder, {}).items():
            yield inner, f"{holder}.{name}"
    for keyword in ("anyOf", "allOf"):
        for index, inner in enumerate(schema.get(keyword, [])):
            yield inner, f"{keyword}.{index}"
    yield schema.get("items"), "items"
