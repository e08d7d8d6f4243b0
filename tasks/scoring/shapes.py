"""Which cells an answer has: the part of a schema that the labels speak of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.schemas.arrow import holds_json
from tasks.schemas.tree import Node

ENTRY = ("key", "value")  # of a map, which is compared as a list of its entries


@dataclass(frozen=True)
class Shape:
    """How a value is taken apart: one cell (text, another value, any JSON, a box), fields, or items."""

    kind: Literal["text", "value", "json", "box", "fields", "items"]
    fields: tuple[tuple[str, "Shape"], ...] = ()
    item: "Shape | None" = None


TEXT, VALUE, ANY, BOX = Shape("text"), Shape("value"), Shape("json"), Shape("box")


def shape_of(node: Node, labels: Iterable[Any] | None = None) -> Shape:
    """The cells of a node's values: all, or with `labels` those of whose names one label at least speaks."""
    known = None if labels is None else [label for label in labels if label is not None]
    if node.box:
        return BOX
    if node.kind == "object":
        named = None if not known else {name for label in known for name in label}
        kept = [child for child in node.properties if named is None or child.name in named]
        return Shape("fields", tuple((child.name, shape_of(child.node, _each(known, child.name))) for child in kept))
    if node.kind == "list":
        return Shape("items", item=shape_of(node.only, _flat(known)))
    if node.kind == "map":
        values = None if not known else [one for label in known for one in label.values()]
        entry = Shape("fields", tuple(zip(ENTRY, (TEXT, shape_of(node.only, values or None)), strict=True)))
        return Shape("items", item=entry)
    if holds_json(node):
        return ANY
    return TEXT if node.kind == "text" else VALUE


def _each(labels: list[Any] | None, name: str) -> list[Any] | None:
    return [label.get(name) for label in labels] if labels else None


def _flat(labels: list[Any] | None) -> list[Any] | None:
    return [one for label in labels for one in label] or None if labels else None


def entries(value: Any) -> list[Any]:
    """The items of a list; of a map, which Arrow gives as pairs, its entries."""
    if isinstance(value, Mapping):
        value = list(value.items())
    return [dict(zip(ENTRY, one, strict=True)) if isinstance(one, tuple) else one for one in value or ()]
