"""The columns of a good answer: its typed value, and what a second reading says of it. Knows nothing of Prefect."""

from typing import Any

from tasks.recording.rows import Row, RowTransform
from tasks.schemas import AnswerSchema
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
        value = self._value(row["answer"], row)
        columns: Row = {"result": value}
        return columns | self._second(value, row) if self._verified else columns

    def _second(self, value: Any, row: Row) -> Row:
        second = row.get("second")
        if second is None:  # not read again: the first answer gave no cause
            return {"needs_review": False}
        columns = {"second_answer": second["answer"], "needs_review": True}
        if second["status"] != "ok":
            return columns
        found = agreements(self._shape, value, self._value(second["answer"], row))
        shares = {name: one.share for name, one in found.items()}
        return {**columns, "agreement": shares, "needs_review": not all(one.is_full for one in found.values())}

    def _value(self, answer: str, row: Row) -> Any:
        value = self._schema.fit(answer).value
        if value is None or not self._schema.boxes:
            return value
        return self._schema.map_boxes(value, RowTransform.of(row))
