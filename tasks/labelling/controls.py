"""How a field is labelled by hand: as a choice, as boxes, or as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from tasks.schemas.boxes import CORNERS, SIZES
from tasks.schemas.tree import Node

BOXES: tuple[tuple[str, ...], ...] = (*CORNERS, *SIZES)


@dataclass(frozen=True)
class Region:
    """A box with its label, as a person drew it; the schema says what its two parts are called."""

    label: Any
    box: Mapping[str, float]


@dataclass(frozen=True)
class Control:
    """A field's way: `values` of a closed set; for boxes in a list of objects the name of the box within, `inner`."""

    name: str
    kind: Literal["choices", "boxes", "text"]
    values: Sequence[Any] = ()
    inner: str | None = None


def controls_of(result: pa.DataType | None, root: Node | None) -> tuple[Control, ...]:
    """A control for each field of a run's answers, by their Arrow type; `root` knows which have a closed set."""
    if result is None:
        return (Control("answer", "text"),)
    nodes = {child.name: child.node for child in root.properties} if root is not None else {}
    return tuple(_control(field, nodes.get(field.name)) for field in result)


def _control(field: pa.Field, node: Node | None) -> Control:
    kind = field.type
    item = kind.value_type if pa.types.is_list(kind) else kind
    if _is_box(item):
        return Control(field.name, "boxes")
    if pa.types.is_list(kind) and pa.types.is_struct(item):
        inner = next((one.name for one in item if _is_box(one.type)), None)
        if inner is not None:
            return Control(field.name, "boxes", inner=inner)
    if pa.types.is_boolean(kind):
        return Control(field.name, "choices", (True, False))
    if node is not None and node.kind == "enum":
        return Control(field.name, "choices", node.values)
    return Control(field.name, "text")


def _is_box(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    numbers = {field.name for field in kind if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    return any(numbers.issuperset(names) for names in BOXES)


def as_answered(node: Node, regions: Sequence[Region]) -> Any:
    """Boxes that a person drew, in the words of the schema: a box, boxes, or objects with a box and what it is of."""
    if node.box:
        return regions[-1].box
    if node.kind == "list" and node.only.box:
        return [one.box for one in regions]
    inside = node.only.properties if node.kind == "list" else ()
    box = next((child.name for child in inside if child.node.box), "box")
    label = next((child.name for child in inside if child.node.kind in ("text", "enum")), "label")
    return [{label: one.label, box: one.box} for one in regions]
