"""The schema as the API takes it, and what it may leave out.

The rules (https://platform.claude.com/docs/en/build-with-claude/structured-outputs): every object closed, no bounds but
`minItems` 0 or 1, no `oneOf`, few formats, at most 24 optional fields and 16 of several types, null among them. What
the API does not take is told to the model in the description, and enforced by us on the answer.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.errors import SchemaError
from tasks.schemas.tree import Node, Property, walk

MAX_OPTIONAL = 24
MAX_UNIONS = 16
API_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
API_TYPES = {"text": "string", "date": "string", "timestamp": "string", "decimal": "string"}
TOLD = [
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
    *("minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems"),
    *("minProperties", "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
    *("not", "if", "then", "else", "anyOf", "oneOf", "default", "examples"),
]

# How a field says that it has no value: not at all possible, null, left out, or empty.
Absence = Literal["never", "null", "left out", "empty"]
Plan = Mapping[int, Absence]


@dataclass(frozen=True)
class Translation:
    """The schema to send, and how each field that may be without a value says so, by `id` of its Property."""

    api: dict[str, Any]
    plan: Plan


def translate(root: Node) -> Translation:
    """The schema to send for this tree. Raises SchemaError if it is more than the API takes in one request."""
    plan = _plan(root)
    return Translation(_api(root, plan), plan)


def properties(root: Node) -> Iterator[Property]:
    """Every property of every object of the tree."""
    for _, node in walk(root):
        yield from node.properties


def _plan(root: Node) -> dict[int, Absence]:
    every = list(properties(root))
    owned = {id(child.node) for child in every}
    of_several = sum(1 for _, n in walk(root) if n.kind == "union" or (n.nullable and id(n) not in owned))
    unions = MAX_UNIONS - of_several
    if unions < 0:
        raise SchemaError(
            f"{of_several} fields may have values of several types; the API takes {MAX_UNIONS}. "
            "Give some of them one type, or split the schema over two jobs."
        )
    optional = MAX_OPTIONAL
    plan: dict[int, Absence] = {id(child): "never" for child in every}
    absent = [child for child in every if child.node.nullable or not child.required]
    # Fields that could say it by being empty come last: they can do without the slots that the API counts.
    for child in sorted(absent, key=_can_be_empty):
        if child.node.kind == "union":
            plan[id(child)] = "null"  # already counted as one of several types
        elif unions > 0:
            plan[id(child)], unions = "null", unions - 1
        elif optional > 0:
            plan[id(child)], optional = "left out", optional - 1
        elif _can_be_empty(child):
            plan[id(child)] = "empty"
        else:
            raise SchemaError(
                f"{len(absent)} fields may be absent or null, such as {child.name!r}; the API takes "
                f"{MAX_OPTIONAL + MAX_UNIONS}. Make some of them required, or split the schema over two jobs."
            )
    return plan


def _can_be_empty(child: Property) -> bool:
    return child.node.kind in ("list", "map") or (child.node.kind == "text" and "format" not in child.node.facts)


def _api(node: Node, plan: Plan, note: str = "") -> dict[str, Any]:
    """One node's schema; `note` is what its description must say besides."""
    shape = _shape(node, plan)
    texts = (node.facts.get("description"), _told(node, shape), _meaning(node), note)
    words = {"title": node.facts.get("title"), "description": " ".join(str(text) for text in texts if text)}
    said: dict[str, Any] = {key: text for key, text in words.items() if text}
    return {**said, **shape}


def _nullable(node: Node, plan: Plan, note: str = "") -> dict[str, Any]:
    """The node's schema, with null if it may be null; a union takes it as one more variant."""
    return _or_null(_api(node, plan, note)) if node.nullable else _api(node, plan, note)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    null = {"type": "null"}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], null]}
    words: dict[str, Any] = {key: schema[key] for key in ("title", "description") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in words}
    return {**words, "anyOf": [rest, null]}


def _shape(node: Node, plan: Plan) -> dict[str, Any]:
    match node.kind:
        case "object":
            return {
                "type": "object",
                "properties": {child.name: _field(child, plan) for child in node.properties},
                "required": [child.name for child in node.properties if plan[id(child)] != "left out"],
                "additionalProperties": False,
            }
        case "list":
            fewest: dict[str, Any] = {"minItems": min(node.facts["minItems"], 1)} if "minItems" in node.facts else {}
            return {"type": "array", "items": _nullable(node.only, plan), **fewest}
        case "map":
            entry = {"key": {"type": "string"}, "value": _nullable(node.only, plan)}
            required = ["key", "value"]
            items = {"type": "object", "properties": entry, "required": required, "additionalProperties": False}
            return {"type": "array", "items": items}
        case "enum":
            return _enum_shape(node.values)
        case "union":
            return {"anyOf": [_api(variant, plan) for variant in node.variants]}
        case "json":
            return {"type": "string"}
        case "decimal" if node.facts.get("type") == "number":
            return {"type": "number"}
        case _:
            form = node.facts.get("format")
            kept: dict[str, Any] = {"format": form} if node.kind in API_TYPES and form in API_FORMATS else {}
            return {"type": API_TYPES.get(node.kind, node.kind), **kept}


def _enum_shape(values: tuple[Any, ...]) -> dict[str, Any]:
    kinds = {bool: "boolean", str: "string", int: "integer", float: "number"}
    types = {kinds[type(value)] for value in values}
    return {"type": types.pop(), "enum": list(values)} if len(types) == 1 else {"enum": list(values)}


def _field(child: Property, plan: Plan) -> dict[str, Any]:
    absence = plan[id(child)]
    if absence == "null":
        return _or_null(_api(child.node, plan, "Null if there is none."))
    if absence == "empty":
        shape = _api(child.node, plan, "Empty if there is none.")
        return {key: value for key, value in shape.items() if key != "minItems"}
    return _api(child.node, plan, "Left out if there is none." if absence == "left out" else "")


def _told(node: Node, shape: dict[str, Any]) -> str:
    """The keywords that the API does not take, as words for the model."""
    left = {key: node.facts[key] for key in TOLD if key in node.facts and node.facts[key] != shape.get(key)}
    said = {"union": ("anyOf", "oneOf"), "decimal": ("format", "anyOf", "oneOf")}.get(node.kind, ())
    left = {key: value for key, value in left.items() if key not in said and (key, value) != ("default", None)}
    if not left:
        return ""
    return "{" + ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in left.items()) + "}"


def _meaning(node: Node) -> str:
    """What the model must know where the type sent says less than the user's."""
    if node.kind == "decimal" and node.facts.get("type") != "number":
        return "A decimal number as text, such as 12.50, without currency or thousands separators."
    if node.kind == "timestamp":
        return "With the offset from UTC, such as 2026-01-31T18:05:00Z."
    if node.kind == "map":
        return "One entry for each key; no key twice."
    return "Any value, written as JSON text." if node.kind == "json" else ""
