"""Boxes: from pixels of the image as sent to pixels of the original, and evidence, which is a box for each field.

A schema marks a box with `"x-box": "pixels"`: an object with one of the layouts below, or a list of four numbers (left,
top, right, bottom). The keyword is not sent; the field's description tells the model what to write.

Evidence is asked for beside the answer: one list of entries, each naming its field, since the API counts neither
optional fields nor choices of types for it, so that every schema which the API takes can be asked for evidence. An
entry that cannot be true is dropped; the answer itself never suffers from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.errors import SchemaError
from tasks.schemas.tree import Node, Property, walk

CORNERS = [
    ("left", "top", "right", "bottom"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
]
SIZES = [("x", "y", "width", "height"), ("left", "top", "width", "height"), ("x", "y", "w", "h")]


NAMES = ("label", "name", "kind", "text")  # fields that say what a box is of

ANSWER, EVIDENCE = "answer", "evidence"
SIDES = ("left", "top", "right", "bottom")
TOKENS = 40  # of one entry
FARTHEST = 2**31  # no image has such pixels, and a float does not hold every whole number
SLACK = 0.02  # of the image's side: so far out, an edge is taken for the image's own
WHOLE_PAGE = 0.9  # of the image's area: what is said to be read from there was read from nowhere
ASKED = (
    "Where each value was read: one entry for every field of the answer that has a value, with the smallest box around "
    "what it was read from, in pixels of the image from its top left corner; for a list, around all its entries."
)

Box = tuple[float, float, float, float]


class Transform(Protocol):
    """How the sent image came from the original: sent = original * scale + offset. A PreparedImage is one."""

    @property
    def scale_x(self) -> float:
        """SentImage pixels for one of the original, across."""

    @property
    def scale_y(self) -> float:
        """SentImage pixels for one of the original, down."""

    @property
    def offset_x(self) -> float:
        """SentImage pixels left of the original's edge."""

    @property
    def offset_y(self) -> float:
        """SentImage pixels above the original's edge."""

    @property
    def source_width(self) -> int:
        """Pixels of the original, across."""

    @property
    def source_height(self) -> int:
        """Pixels of the original, down."""


def box_paths(root: Node) -> tuple[str, ...]:
    """Where the boxes are, such as `$.objects[].box`. Raises SchemaError for a box that could not be mapped."""
    for path, node in walk(root):
        if node.kind == "union" and any(inner.box for variant in node.variants for _, inner in walk(variant)):
            raise SchemaError(f"{path}: a box inside a choice of types. Give the box a field of one type.")
    return tuple(path for path, node in walk(root) if node.box and _names(node, path))


def _names(node: Node, path: str) -> tuple[str, ...]:
    """The names of a box's four numbers; a list has places instead."""
    if node.kind == "list" and _is_number(node.only):
        return ("0", "1", "2", "3")
    numbers = {child.name for child in node.properties if _is_number(child.node)}
    for names in (*CORNERS, *SIZES):
        if numbers.issuperset(names):
            return names
    raise SchemaError(
        f"{path}: x-box marks no box. A box is an object with the numbers left, top, right, bottom (or x, y, width, "
        "height; x1, y1, x2, y2), or a list of four numbers."
    )


def _is_number(node: Node) -> bool:
    return node.kind in ("integer", "number")


def corners(value: Any) -> tuple[float, float, float, float] | None:
    """Left, top, width and height of a box: by the names of its numbers, or a list of left, top, right, bottom."""
    if isinstance(value, list | tuple):
        value = dict(zip(CORNERS[0], value, strict=True)) if len(value) == 4 else {}
    if not isinstance(value, Mapping):
        return None
    for names in (*CORNERS, *SIZES):
        numbers = [value.get(name) for name in names]
        if all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
            left, top, a, b = map(float, numbers)  # type: ignore[arg-type]
            return (left, top, a, b) if names in SIZES else (left, top, a - left, b - top)
    return None


def named_boxes(value: Any, name: str = "") -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Every box of an answer, with the name of what it is of."""
    if isinstance(value, Mapping):
        if box := corners(value):
            yield name, box
            return
        label = label_of(value)
        for key, one in value.items():
            yield from named_boxes(one, label or str(key))
    elif isinstance(value, list):
        for one in value:
            yield from named_boxes(one, name)


def label_of(value: Mapping[str, Any]) -> str:
    """What a thing is called by its own fields; empty if by none."""
    return next((str(value[key]) for key in NAMES if value.get(key)), "")


def map_boxes(node: Node, value: Any, transform: Transform) -> Any:
    """The value with every box in pixels of the original, kept inside it."""
    if value is None or not any(inner.box for _, inner in walk(node)):
        return value
    if node.box:
        return _map_box(node, value, transform)
    if node.kind == "object":
        return {child.name: map_boxes(child.node, value[child.name], transform) for child in node.properties}
    if node.kind == "list":
        return [map_boxes(node.only, one, transform) for one in value]
    return [(key, map_boxes(node.only, one, transform)) for key, one in value]


def _map_box(node: Node, value: Any, transform: Transform) -> Any:
    if node.kind == "list":
        whole = node.only.kind == "integer"
        return list(mapped_corners(value, transform, (whole,) * 4))
    names = _names(node, "$")
    kinds = {child.name: child.node.kind for child in node.properties}
    whole_numbers = tuple(kinds[name] == "integer" for name in names)
    numbers = [value[name] for name in names]
    if any(number is None for number in numbers):
        return value
    if names in CORNERS:
        return {**value, **dict(zip(names, mapped_corners(numbers, transform, whole_numbers), strict=True))}
    left, top, width, height = numbers
    mapped = tuple(mapped_corners([left, top, left + width, top + height], transform, whole_numbers))
    sized = (mapped[0], mapped[1], mapped[2] - mapped[0], mapped[3] - mapped[1])
    return {**value, **dict(zip(names, sized, strict=True))}


def mapped_corners(numbers: list[Any], transform: Transform, whole: tuple[bool, ...]) -> Iterator[int | float]:
    """Left, top, right and bottom in pixels of the original, kept inside it; `whole` says which are rounded."""
    for place, number in enumerate(numbers):
        horizontal = place % 2 == 0
        scale, offset, end = (
            (transform.scale_x, transform.offset_x, transform.source_width)
            if horizontal
            else (transform.scale_y, transform.offset_y, transform.source_height)
        )
        mapped = min(max((number - offset) / scale, 0.0), float(end))
        yield round(mapped) if whole[place] else mapped


@dataclass(frozen=True)
class SentImage:
    """The image that the boxes are of."""

    page: int
    width: int
    height: int
    transform: Transform


def evidence_api(api: dict[str, Any], root: Node) -> dict[str, Any]:
    """The schema as it is sent, with evidence beside the answer."""
    entry = {"field": {"type": "string", "enum": [child.name for child in root.properties]}}
    entry |= {side: {"type": "integer"} for side in SIDES}
    return _object({ANSWER: api, EVIDENCE: {"type": "array", "description": ASKED, "items": _object(entry)}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def entries_of(evidence: Any) -> list[tuple[str, Box]]:
    """What is an entry of an answer's evidence, whatever else it holds."""
    found = []
    for one in evidence if isinstance(evidence, list) else []:
        name, *sides = [one.get(key) for key in ("field", *SIDES)] if isinstance(one, Mapping) else [None]
        numbers = [float(side) for side in sides if type(side) is int and abs(side) < FARTHEST]
        if isinstance(name, str) and len(numbers) == len(SIDES):
            found.append((name, (numbers[0], numbers[1], numbers[2], numbers[3])))
    return found


def evidence_of(
    root: Node, value: Mapping[str, Any], entries: list[tuple[str, Box]], sent: SentImage
) -> dict[str, Any]:
    """For each field its box in pixels of the original; None where there is no value, or no box that can be true."""
    return {child.name: _of_field(child, value.get(child.name), entries, sent) for child in root.properties}


def _of_field(field: Property, value: Any, entries: list[tuple[str, Box]], sent: SentImage) -> dict[str, Any] | None:
    if value in (None, "", [], {}):
        return None
    parts = field.node.kind in ("object", "list", "map")
    boxes = [box for name, box in entries if name == field.name and _is_sound(box, sent, parts=parts)]
    if not boxes:
        return None
    sides: list[float] = list(boxes[0])
    if parts:  # some models give each line of a list a box of its own
        sides = [min(box[0] for box in boxes), min(box[1] for box in boxes)]
        sides += [max(box[2] for box in boxes), max(box[3] for box in boxes)]
    mapped = mapped_corners(sides, sent.transform, (False,) * 4)
    return {"page": sent.page, **dict(zip(SIDES, mapped, strict=True))}


def _is_sound(box: Box, sent: SentImage, *, parts: bool) -> bool:
    """Inside the image, not empty, and not the whole page for a single value."""
    left, top, right, bottom = box
    wide, high = SLACK * sent.width, SLACK * sent.height
    if not (-wide <= left < right <= sent.width + wide and -high <= top < bottom <= sent.height + high):
        return False
    return parts or (right - left) * (bottom - top) < WHOLE_PAGE * sent.width * sent.height
