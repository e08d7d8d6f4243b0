"""Evidence: for each field of an answer the box that its value was read from, asked for beside the answer.

One list of entries, each naming its field, holds all boxes: the API counts neither optional fields nor choices of types
for it, so that every schema which the API takes can be asked for evidence. An entry that cannot be true is dropped; the
answer itself never suffers from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.schemas.boxes import Transform, mapped_corners
from tasks.schemas.tree import Node, Property

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


@dataclass(frozen=True)
class Sent:
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


def evidence_of(root: Node, value: Mapping[str, Any], entries: list[tuple[str, Box]], sent: Sent) -> dict[str, Any]:
    """For each field its box in pixels of the original; None where there is no value, or no box that can be true."""
    return {child.name: _of_field(child, value.get(child.name), entries, sent) for child in root.properties}


def _of_field(field: Property, value: Any, entries: list[tuple[str, Box]], sent: Sent) -> dict[str, Any] | None:
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


def _is_sound(box: Box, sent: Sent, *, parts: bool) -> bool:
    """Inside the image, not empty, and not the whole page for a single value."""
    left, top, right, bottom = box
    wide, high = SLACK * sent.width, SLACK * sent.height
    if not (-wide <= left < right <= sent.width + wide and -high <= top < bottom <= sent.height + high):
        return False
    return parts or (right - left) * (bottom - top) < WHOLE_PAGE * sent.width * sent.height
