"""The columns of a good answer: its typed value, where it was read, and what a second reading says of it.

Knows nothing of Prefect.
"""

from typing import Any

from tasks.recording.rows import Row, RowTransform
from tasks.schemas import AnswerSchema
from tasks.schemas.evidence import Sent, evidence_of
from tasks.scoring.agreement import agreements
from tasks.scoring.shapes import shape_of


class AnswerColumns:
    """For one schema; `verified` where the job reads images a second time."""

    def __init__(self, schema: AnswerSchema, *, verified: bool) -> None:
        self._schema = schema
        self._verified = verified
        self._shape = shape_of(schema.root)

    def __call__(self, row: Row) -> Row:
        """The columns `answer_columns` of a row with a good answer; boxes are in pixels of the original image."""
        fitted = self._schema.fit(row["answer"])
        value = self._mapped(fitted.value, row)
        columns: Row = {"result": value}
        if self._schema.evidence and value is not None:
            sent = Sent(row["page"], row["sent_width"], row["sent_height"], RowTransform.of(row))
            columns["evidence"] = evidence_of(self._schema.root, value, fitted.evidence, sent)
        return columns | self._second(value, row) if self._verified else columns

    def _second(self, value: Any, row: Row) -> Row:
        second = row.get("second")
        if second is None:  # not read again: the first answer gave no cause
            return {"needs_review": False}
        columns = {"second_answer": second["answer"], "needs_review": True}
        if second["status"] != "ok":
            return columns
        other = self._mapped(self._schema.fit(second["answer"]).value, row)
        found = agreements(self._shape, value, other)
        shares = {name: one.share for name, one in found.items()}
        return {**columns, "agreement": shares, "needs_review": not all(one.is_full for one in found.values())}

    def _mapped(self, value: Any, row: Row) -> Any:
        if value is None or not self._schema.boxes:
            return value
        return self._schema.map_boxes(value, RowTransform.of(row))
