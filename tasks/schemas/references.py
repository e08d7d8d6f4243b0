"""What must hold of every part of a schema before the first call: references lead somewhere inside, patterns are taken.

The tree (`tree`) reads only what decides a type. Conditions, negations and definitions that nothing uses yet are looked
at here, so that none of them is found out by an answer that was paid for. Nothing is ever fetched.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any
from urllib.parse import unquote

from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from tasks.errors import SchemaError
from tasks.schemas.enforcing import compiled
from tasks.schemas.tree import NO_RECURSION

MOST_PARTS = 5_000  # with each reference followed: thirty definitions that each name the next twice would be 2**30
DEEPEST_PARTS = 50
LARGEST_NESTING = 100  # arrays and objects of the schema's own text
DEFINITIONS = ("$defs", "definitions")


def check_nesting(source: Any) -> None:
    """Raises SchemaError for a text that nests deeper than what reads it may go."""
    level, depth = [source], 0
    while level:
        depth += 1
        if depth > LARGEST_NESTING:
            raise SchemaError(f"more than {LARGEST_NESTING} arrays and objects in one another. Make it flatter.")
        level = [inner for outer in level for inner in _containers(outer)]


def check_parts(source: dict[str, Any], validator_class: type[Validator]) -> None:
    """Raises SchemaError naming the place of the first part that could stop or hold up an answer's check."""
    specification = specification_with(str(validator_class.META_SCHEMA["$schema"]))
    places = dict(_places(source))
    parts = _Parts(source, places)
    root = specification.create_resource(source)
    todo = [(root, Registry().resolver_with_root(root))]
    while todo:
        resource, resolver = todo.pop()
        schema = resource.contents
        if not isinstance(schema, dict) or id(schema) in parts.inner:
            continue
        at = places.get(id(schema), "$")
        if schema is not source:
            try:
                resolver = resolver.in_subresource(resource)
            except ValueError as error:
                raise SchemaError(f"{at}.$id: {schema.get('$id')!r} is no address ({error}). Leave it out.") from None
        _check_words(schema, at, schema is source)
        below = [inner for inner in resource.subresources() if isinstance(inner.contents, dict)]
        todo += [(inner, resolver) for inner in below]
        defined = {id(one) for word in DEFINITIONS for one in _values(schema.get(word))}
        parts.inner[id(schema)] = [inner.contents for inner in below if id(inner.contents) not in defined]
        if "$ref" in schema:
            found = _target(schema["$ref"], at, resolver, source)
            parts.inner[id(schema)].append(found.contents)
            todo.append((specification.create_resource(found.contents), found.resolver))
    parts.measure(source, ())


@dataclass(frozen=True)
class _Parts:
    """The parts that each part consists of or refers to, by `id`."""

    source: dict[str, Any]
    places: dict[int, str]
    inner: dict[int, list[Any]] = field(default_factory=dict)
    measured: dict[int, tuple[int, int]] = field(default_factory=dict)

    def measure(self, schema: Any, above: tuple[int, ...]) -> tuple[int, int]:
        """(parts, levels) with each reference followed. Raises SchemaError for what has no end, or a too far one."""
        if not isinstance(schema, dict):
            return 1, 1
        at = self.places.get(id(schema), "$")
        if id(schema) not in self.measured:
            if any(id(one) in (*above, id(schema)) for one in self.inner[id(schema)]):
                raise SchemaError(f"{at}: {schema['$ref']} {NO_RECURSION}.")  # nothing else leads back
            if len(above) >= DEEPEST_PARTS:
                raise SchemaError(f"{at}: more than {DEEPEST_PARTS} levels of schemas. Make it flatter.")
            sizes = [self.measure(one, (*above, id(schema))) for one in self.inner[id(schema)]]
            parts, levels = 1 + sum(size[0] for size in sizes), 1 + max((size[1] for size in sizes), default=0)
            if parts > MOST_PARTS:
                raise SchemaError(f"{at}: more than {MOST_PARTS:,} parts, references followed. Make it smaller.")
            self.measured[id(schema)] = parts, levels
        parts, levels = self.measured[id(schema)]
        if len(above) + levels > DEEPEST_PARTS:
            raise SchemaError(f"{at}: more than {DEEPEST_PARTS} levels of schemas. Make it flatter.")
        return parts, levels


def _check_words(schema: dict[str, Any], at: str, is_root: bool) -> None:
    if "$schema" in schema and not is_root:
        raise SchemaError(f"{at}.$schema: a part of another draft. Leave it out; the first line's holds for all.")
    for word in ("$dynamicRef", "$recursiveRef"):
        if word in schema:
            raise SchemaError(f"{at}.{word}: {NO_RECURSION}.")
    if "patternProperties" in schema and schema.keys() & {"unevaluatedProperties"}:
        raise SchemaError(f"{at}: unevaluatedProperties beside patternProperties. Use additionalProperties.")
    patterns = [(schema["pattern"], f"{at}.pattern")] if "pattern" in schema else []
    patterns += [(name, f"{at}.patternProperties") for name in _keys(schema.get("patternProperties"))]
    for pattern, place in patterns:
        try:
            compiled(pattern)
        except ValueError as error:
            raise SchemaError(
                f"{place}: the pattern {pattern[:60]!r} cannot be checked: {error}. Write it another way."
            ) from None


def _target(reference: str, at: str, resolver: Any, source: dict[str, Any]) -> Any:
    try:
        found = resolver.lookup(reference)
    except (Unresolvable, ValueError, TypeError, AttributeError):
        if reference.startswith("#"):
            raise SchemaError(f"{at}: there is no {reference} in this schema. Check its spelling.") from None
        raise SchemaError(
            f"{at}: {reference} lies outside this schema, and nothing is fetched. Copy it into $defs."
        ) from None
    if not isinstance(found.contents, dict | bool):
        raise SchemaError(f"{at}: {reference} leads to no schema. Check its spelling.")
    if reference.startswith("#/") and found.contents is not _pointed(reference, source):
        raise SchemaError(f"{at}: an $id gives {reference} another meaning. Leave the $id out.")
    return found


def _pointed(reference: str, source: Any) -> Any:
    """What the reference means without any `$id`; None if nothing."""
    steps = (step.replace("~1", "/").replace("~0", "~") for step in unquote(reference[2:]).split("/"))
    try:
        return reduce(lambda found, step: found[int(step) if isinstance(found, list) else step], steps, source)
    except (LookupError, ValueError, TypeError):
        return None


def _places(source: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The place of every object in the schema's text."""
    todo: list[tuple[Any, str]] = [(source, "$")]
    while todo:
        value, at = todo.pop()
        if isinstance(value, dict):
            yield id(value), at
            todo += [(one, f"{at}.{name}") for name, one in value.items()]
        elif isinstance(value, list):
            todo += [(one, f"{at}[{n}]") for n, one in enumerate(value)]


def _containers(of: Any) -> list[Any]:
    values = of.values() if isinstance(of, dict) else of
    return [value for value in values if isinstance(value, dict | list)]


def _values(definitions: Any) -> list[Any]:
    return list(definitions.values()) if isinstance(definitions, dict) else []


def _keys(patterns: Any) -> list[str]:
    return list(patterns) if isinstance(patterns, dict) else []
