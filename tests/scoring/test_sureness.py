"""How sure a first answer looks by itself: which images `--verify-below` reads again."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tasks.asking.answer import Answer
from tasks.asking.pages import Outcome
from tasks.asking.question import Step
from tasks.billing.usage import Usage
from tasks.schemas.loading import build_schema
from tasks.scoring.readings import sureness
from tests.asking import page, question

TEXT = {"type": "string"}
FIELDS = {
    "company": TEXT,
    "address": TEXT,
    "lines": {"type": "array", "items": {"type": "object", "properties": {"t": TEXT}}},
}
SCHEMA = build_schema(
    "s",
    {"type": "object", "properties": {**FIELDS, "total": {"type": "number"}}, "required": ["company", "lines"]},
    label="s",
)
GOOD: dict[str, Any] = {"company": "Mill", "address": "1 Lane", "lines": [{"t": "Tea"}], "total": 0}


def outcome(value: Any, step: int = 0) -> Outcome:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    answer = Answer(json.dumps(value), "end_turn", "m", None, Usage(), Decimal(0), 100, 1, now, "run", "image")
    return Outcome("ok", Step(step, question()), answer)


@pytest.mark.parametrize(
    ("change", "sure"),
    [
        ({}, 1),
        ({"address": None}, 1),  # it need not be there
        ({"company": ""}, 0.75),
        ({"lines": []}, 0.75),
        ({"lines": [{"t": "T[?]a"}]}, 0.75),
        ({"address": "1 L\ufffdne"}, 0.75),
        ({"company": "", "lines": [{"t": "T\ufffd"}]}, 0.5),
    ],
)
def test_each_field_that_gives_cause_takes_its_share(change: dict[str, Any], sure: float) -> None:
    assert sureness(SCHEMA, page(1), outcome({**GOOD, **change})) == sure


def test_a_fallback_is_never_sure() -> None:
    assert sureness(SCHEMA, page(1), outcome(GOOD, step=1)) == 0


def test_a_value_without_evidence_gives_cause() -> None:
    schema = SCHEMA.with_evidence()
    box = {"left": 1, "top": 1, "right": 9, "bottom": 9}
    entries = [{"field": name, **box} for name in ("company", "lines", "total")]
    assert sureness(schema, page(1), outcome({"answer": GOOD, "evidence": entries})) == 0.75
    without = {**GOOD, "address": None}
    assert sureness(schema, page(1), outcome({"answer": without, "evidence": entries})) == 1


def test_an_answer_that_does_not_fit_is_not_sure() -> None:
    assert sureness(SCHEMA, page(1), outcome("no object")) == 0
    assert sureness(SCHEMA, page(1), replace(outcome(GOOD), answer=None)) == 0
