"""How sure a first answer looks by itself, before anybody reads the image again."""

from typing import Any

from tasks.asking.pages import Outcome, Page
from tasks.schemas import AnswerSchema
from tasks.schemas.boxes import SentImage, evidence_of

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
