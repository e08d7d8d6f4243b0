"""A JSON Schema as a tree of nodes: references followed, `allOf` merged, nulls and formats understood.

The tree decides what is asked and which Arrow type comes of it. Bounds, patterns and conditions stay in the user's own
schema, which is enforced on the answer as it was written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Literal

from tasks.errors import SchemaError

Kind = Literal[
    "object",
    "list",
    "map",
    "text",
    "date",
    "timestamp",
    "decimal",
    "integer",
    "number",
    "boolean",
    "enum",
    "union",  # of several types
    "json",  # of any type
]

SCALARS: dict[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
TEXT_FORMATS: dict[str, Kind] = {"date": "date", "date-time": "timestamp", "decimal": "decimal"}
# The API refuses a schema that contains itself, and no Arrow type could hold its answers.
NO_RECURSION = "refers to itself. Say how deep it goes by naming each level"


@dataclass(frozen=True)
class Property:
    """One named field of an object."""

    name: str
    node: "Node"
    required: bool


@dataclass(frozen=True)
class Node:
    """What one value may be. `schema` is the user's own, for enforcing; `facts` the same with references followed."""

    kind: Kind
    schema: Any = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    nullable: bool = False
    properties: tuple[Property, ...] = ()
    item: "Node | None" = None  # of a list, or the values of a map
    values: tuple[Any, ...] = ()  # of an enum
    variants: tuple["Node", ...] = ()  # of a union
    box: bool = False

    @property
    def only(self) -> "Node":
        """The node of a list's items or a map's values."""
        if self.item is None:
            raise TypeError(f"{self.kind} has no items")
        return self.item


def walk(node: Node, path: str = "$") -> Iterator[tuple[str, Node]]:
    """Every node below and including this one, with its path in an answer, such as `$.items[].price`."""
    yield path, node
    for child in node.properties:
        yield from walk(child.node, f"{path}.{child.name}")
    if node.item is not None:
        yield from walk(node.item, f"{path}[]" if node.kind == "list" else f"{path}{{}}")
    for variant in node.variants:
        yield from walk(variant, path)


def read_tree(source: dict[str, Any]) -> Node:
    """The tree of a valid JSON Schema. Raises SchemaError naming the place in the schema that cannot be used."""
    return _Reader(source).node(source, "$", ())


@dataclass(frozen=True)
class _Reader:
    root: dict[str, Any]

    def node(self, schema: Any, at: str, above: tuple[str, ...]) -> Node:
        facts, above = self._resolve(schema, at, above)
        node = self._untyped(schema, facts, at, above)
        return _with_box(node, at) if "x-box" in facts else node

    def _untyped(self, schema: Any, facts: dict[str, Any], at: str, above: tuple[str, ...]) -> Node:
        if "enum" in facts or "const" in facts:
            return _enum(schema, facts, at)
        types = facts.get("type", _implied_type(facts))
        if types is None:
            for keyword in ("anyOf", "oneOf"):
                if keyword in facts:
                    return self._union(schema, facts, (facts[keyword], f"{at}.{keyword}"), above)
            return Node("json", schema, facts)
        if isinstance(types, list):
            variants = [{**facts, "type": one} if one != "null" else {"type": "null"} for one in types]
            plain: dict[str, Any] = {key: facts[key] for key in ("title", "description") if key in facts}
            return self._union(schema, plain, (variants, f"{at}.type"), above)
        return self._typed(schema, facts, types, (at, above))

    def _typed(self, schema: Any, facts: dict[str, Any], kind: str, place: tuple[str, tuple[str, ...]]) -> Node:
        at, above = place
        if kind == "object":
            return self._object(schema, facts, at, above)
        if kind == "array":
            item = self.node(*_items(facts, at), above)
            return Node("list", schema, facts, item=item)
        if kind == "null":
            raise SchemaError(f"{at}: the value can only be null. Leave the field out.")
        scalar = SCALARS[kind]
        if kind in ("string", "number"):
            wanted = TEXT_FORMATS.get(facts.get("format", ""), scalar)
            scalar = wanted if kind == "string" or wanted == "decimal" else scalar
        return Node(scalar, schema, facts)

    def _object(self, schema: Any, facts: dict[str, Any], at: str, above: tuple[str, ...]) -> Node:
        named: dict[str, Any] = facts.get("properties", {})
        patterns: dict[str, Any] = facts.get("patternProperties", {})
        rest = facts.get("additionalProperties", not patterns)
        if not named:
            if isinstance(rest, dict) or rest is True:
                return Node("map", schema, facts, item=self.node(rest, f"{at}.additionalProperties", above))
            if len(patterns) == 1:
                [(pattern, values)] = patterns.items()
                item = self.node(values, f"{at}.patternProperties[{pattern!r}]", above)
                return Node("map", schema, facts, item=item)
            raise SchemaError(f"{at}: an object without properties. Name its properties.")
        if isinstance(rest, dict) or patterns:
            raise SchemaError(f"{at}: properties and open ones together. Put the open ones into a field of their own.")
        required = set(facts.get("required", ()))
        for name in sorted(required - named.keys()):
            raise SchemaError(f"{at}.required: {name!r} is required, but is no property. Add it to properties.")
        properties = (
            Property(name, self.node(child, f"{at}.properties.{name}", above), name in required)
            for name, child in named.items()
        )
        return Node("object", schema, facts, properties=tuple(properties))

    def _union(self, schema: Any, facts: dict[str, Any], choice: tuple[list[Any], str], above: tuple[str, ...]) -> Node:
        options, at = choice
        resolved = [self._resolve(option, f"{at}[{n}]", above)[0] for n, option in enumerate(options)]
        solid = [(n, option) for n, option in enumerate(options) if resolved[n].get("type") != "null"]
        nullable = len(solid) < len(options)
        if not solid:
            raise SchemaError(f"{at}: the value can only be null. Leave the field out.")
        nodes = [self.node(option, f"{at}[{n}]", above) for n, option in solid]
        nullable = nullable or any(node.nullable for node in nodes)
        if len(nodes) == 1:
            words = {key: value for key, value in facts.items() if key not in ("anyOf", "oneOf", "type")}
            return replace(nodes[0], schema=schema, facts={**nodes[0].facts, **words}, nullable=nullable)
        variants = tuple(replace(node, nullable=False) for node in nodes)
        return Node("union", schema, facts, nullable=nullable, variants=variants)

    def _resolve(
        self, schema: dict[str, Any] | bool, at: str, above: tuple[str, ...]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The schema with its own references followed and `allOf` merged, and all references now open."""
        if schema is False:
            raise SchemaError(f"{at}: nothing fits `false`. Leave the field out.")
        if schema is True:
            return {}, above
        if "$dynamicRef" in schema or "$recursiveRef" in schema:
            raise SchemaError(f"{at}: {NO_RECURSION}.")
        own = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        parts = [(part, f"{at}.allOf[{n}]") for n, part in enumerate(schema.get("allOf", ()))]
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference == "#" or reference in above:
                raise SchemaError(f"{at}: {reference} {NO_RECURSION}.")
            above = (*above, reference)
            parts.insert(0, (self._target(reference, at), f"{at}.$ref"))
        facts: dict[str, Any] = {}
        for part, place in parts:
            inner, above = self._resolve(part, place, above)
            facts = merge(facts, inner, at)
        return merge(facts, own, at), above

    def _target(self, reference: str, at: str) -> Any:
        if not reference.startswith("#/"):
            raise SchemaError(f"{at}: {reference} lies outside this schema. Copy it into $defs.")
        try:
            steps = (step.replace("~1", "/").replace("~0", "~") for step in reference[2:].split("/"))
            return reduce(lambda found, step: found[int(step) if isinstance(found, list) else step], steps, self.root)
        except (KeyError, IndexError, ValueError, TypeError):
            raise SchemaError(f"{at}: there is no {reference} in this schema. Check its spelling.") from None


def merge(first: dict[str, Any], second: dict[str, Any], at: str) -> dict[str, Any]:
    """Both schemas in one, as `allOf` means it; words such as titles are the second's. Raises SchemaError."""
    merged = {**first, **second}
    if "properties" in first and "properties" in second:
        shared = {
            name: {"allOf": [first["properties"][name], second["properties"][name]]}
            for name in first["properties"].keys() & second["properties"].keys()
        }
        merged["properties"] = {**first["properties"], **second["properties"], **shared}
    if "required" in first and "required" in second:
        merged["required"] = [*first["required"], *second["required"]]
    if "enum" in first and "enum" in second:
        merged["enum"] = [value for value in first["enum"] if value in second["enum"]]
    if "type" in first and "type" in second and first["type"] != second["type"]:
        if {first["type"], second["type"]} != {"integer", "number"}:
            raise SchemaError(f"{at}: allOf asks for {first['type']} and {second['type']} at once. Choose one.")
        merged["type"] = "integer"
    return merged


def _implied_type(facts: dict[str, Any]) -> str | None:
    """The type that the keywords speak of where none is named."""
    if facts.keys() & {"properties", "patternProperties", "additionalProperties"}:
        return "object"
    return "array" if facts.keys() & {"items", "prefixItems"} else None


def _items(facts: dict[str, Any], at: str) -> tuple[Any, str]:
    """The schema of all items of a list; a tuple's places become one union."""
    places = facts.get("prefixItems", facts.get("items"))
    if not isinstance(places, list):
        return facts.get("items", True), f"{at}.items"
    rest = facts.get("items") if "prefixItems" in facts else facts.get("additionalItems")
    options = [*places, rest] if isinstance(rest, dict) else places
    distinct = [option for n, option in enumerate(options) if option not in options[:n]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}, f"{at}.prefixItems"


def _enum(schema: Any, facts: dict[str, Any], at: str) -> Node:
    values = facts.get("enum", [facts.get("const")])
    if any(isinstance(value, dict | list) for value in values):
        raise SchemaError(f"{at}: the API takes only text, numbers, true, false and null in an enum. Use these.")
    solid = tuple(value for value in values if value is not None)
    if not solid:
        raise SchemaError(f"{at}: the enum leaves no value. Give it one.")
    return Node("enum", schema, facts, nullable=len(solid) < len(values), values=solid)


def _with_box(node: Node, at: str) -> Node:
    if node.facts["x-box"] != "pixels":
        raise SchemaError(f'{at}.x-box: {node.facts["x-box"]!r} is no unit of boxes. Write "x-box": "pixels".')
    return replace(node, box=True)
