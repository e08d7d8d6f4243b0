"""The columns of a row that its schema types: the answer's value, its evidence, what a second reading says of it."""

from dataclasses import replace
from typing import Any

from config.job import Job
from config.models import model_facts
from tasks.planning.resolving import second_reader
from tasks.preparing.prepare import planned_size
from tasks.recording.rows import Row, RowTransform
from tasks.schemas import AnswerSchema
from tasks.schemas.boxes import SentImage, evidence_of
from tasks.scoring.cells import shape_of
from tasks.scoring.readings import agreements
from tasks.types import ImageRules


class AnswerColumns:
    """For one schema and job."""

    def __init__(self, schema: AnswerSchema, job: Job) -> None:
        self._schema = schema
        self._job = job
        self._shape = shape_of(schema.root)

    def __call__(self, row: Row) -> Row:
        """The columns `answer_columns` of a row with a good answer; boxes are in pixels of the original image."""
        fitted = self._schema.fit(row["answer"])
        seen = seen_by(row["model"], row)
        value = self._mapped(fitted.value, seen)
        columns: Row = {"result": value}
        if self._schema.evidence and value is not None:
            columns["evidence"] = evidence_of(self._schema.root, value, fitted.evidence, seen)
        return columns | self._second(value, row) if self._job.verify else columns

    def _second(self, value: Any, row: Row) -> Row:
        second = row.get("second")
        if second is None:  # not read again: the first answer gave no cause
            return {"needs_review": False}
        columns = {"second_answer": second["answer"], "needs_review": True}
        if second["status"] != "ok":
            return columns
        seen = seen_by(second_reader(self._job, row["model"]), row)
        other = self._mapped(self._schema.fit(second["answer"]).value, seen)
        found = agreements(self._shape, value, other)
        shares = {name: one.share for name, one in found.items()}
        return {**columns, "agreement": shares, "needs_review": not all(one.is_full for one in found.values())}

    def _mapped(self, value: Any, seen: SentImage) -> Any:
        if value is None or not self._schema.boxes:
            return value
        return self._schema.map_boxes(value, seen.transform)


def seen_by(model: str, row: Row) -> SentImage:
    """The row's image as a model sees it, which its boxes are of.

    Images are sent for the job's own model. The API shrinks them further for one of a lower vision tier that reads them
    after it: a second reader, or a fallback.
    """
    sent, (width, height) = RowTransform.of(row), (row["sent_width"], row["sent_height"])
    edge, tokens = model_facts(model).vision_limits
    rules = ImageRules(max_edge=edge, quality=0, model_edge=edge, model_tokens=tokens)
    seen_width, seen_height = planned_size(width, height, rules)
    x, y = seen_width / width, seen_height / height
    scaled = {"scale_x": sent.scale_x * x, "scale_y": sent.scale_y * y}
    scaled |= {"offset_x": sent.offset_x * x, "offset_y": sent.offset_y * y}
    return SentImage(row["page"], seen_width, seen_height, replace(sent, **scaled))
