"""Which answers a person should look at: how sure a first reading looks by itself, and how far a second one agrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.asking.pages import Outcome, Page
from tasks.schemas import AnswerSchema
from tasks.schemas.boxes import SentImage, evidence_of
from tasks.scoring.cells import OVERLAP, Shape, Tally, tally

# Two readings of a page of text hardly ever are equal to the letter, and nobody wants to see each of them.
LONG_TEXT, NEARLY = 200, 0.98


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one field: 0 to 1, and whether it is as good as whole."""

    share: float
    is_full: bool


def agreements(shape: Shape, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Agreement]:
    """For each field of two answers.

    A cell counts 1 where both are the same after dates, numbers and white space are normalised, a text else by its edit
    similarity, a box by its intersection over union (full from 0.5), all other cells 0; a list or an object is the mean
    of its cells, items paired. A text of over 200 characters is full from 0.98.
    """
    return {name: _agreement(inner, first.get(name), second.get(name)) for name, inner in shape.fields}


def _agreement(shape: Shape, first: Any, second: Any) -> Agreement:
    cells = tally(shape, first, second)
    share = _share(cells)
    long = shape.kind == "text" and isinstance(first, str) and len(first) > LONG_TEXT
    return Agreement(share, cells.wrong == 0 or (long and share >= NEARLY))


def _share(cells: Tally) -> float:
    near = sum(one for one in cells.alike if one < 1)  # of texts that are not the same
    boxes = sum(cells.overlaps) - sum(one >= OVERLAP for one in cells.overlaps)
    whole = cells.wanted + cells.given
    return 1.0 if not whole else min(max(2 * (cells.right + near + boxes) / whole, 0.0), 1.0)


# What stands for a character that could not be read: Unicode's own, and the one that our prompt `ocr` asks for.
UNREADABLE = ("\ufffd", "[?]")


def sureness(schema: AnswerSchema, page: Page, outcome: Outcome) -> float:
    """Between 0 and 1: the share of an answer's fields that give no cause for doubt; 0 for the answer of a fallback.

    A required field without a value gives cause, a text with a character that could not be read, and, where evidence
    was asked for, a value without a box that can be true.
    """
    fitted = schema.fit(outcome.answer.text) if outcome.answer else None
    if outcome.step.number > 0 or fitted is None or fitted.value is None:
        return 0.0
    doubted = {child.name for child in schema.root.properties if child.required and _is_empty(fitted.value[child.name])}
    doubted |= {name for name, value in fitted.value.items() if _is_unreadable(value)}
    if schema.evidence:
        sent = SentImage(page.image.page, page.image.width, page.image.height, page.image)
        boxes = evidence_of(schema.root, fitted.value, fitted.evidence, sent)
        doubted |= {name for name, value in fitted.value.items() if boxes[name] is None and not _is_empty(value)}
    return 1 - len(doubted) / len(schema.root.properties)


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {})


def _is_unreadable(value: Any) -> bool:
    if isinstance(value, str):
        return any(sign in value for sign in UNREADABLE)
    if isinstance(value, dict):
        return any(map(_is_unreadable, value.values()))
    return isinstance(value, list | tuple) and any(map(_is_unreadable, value))
