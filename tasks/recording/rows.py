"""One row of `results` for one page of one listed file.

A row is made as plain JSON values, because a finished chunk keeps its rows in Prefect's result store; `typed` turns it
into what Parquet takes. A kept row that comes back in a later run is `renewed`: that run paid nothing for it. Whether
what was kept are rows, `are_rows` says: a record without a checksum may be anything.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.asking.pages import Outcome, Page
from tasks.asking.question import Question
from tasks.errors import ImageError
from tasks.recording.tables import RESULTS, STATUSES
from tasks.text import as_utf8
from tasks.types import PreparedImage, Source

Row = dict[str, Any]

KEPT_ONLY = ("kept_usd", "readers", "second", "kept_by")  # for later runs, not for the table
# The row says nothing lasting of such a file: a later run tries again.
OPEN_STATUSES = frozenset({"unavailable", "unasked", "rejected"})
# Neither does it where reading the file may have failed for a moment: a change of mode or policy, a folder mounted
# again or a machine less busy leave a file's size and time as they were. `too_slow` and `unsafe` do last: a processor
# worked on the file for long, or two fresh decoders crashed on it, so that the next run would only wait for the same.
PASSING_CODES = frozenset({"missing", "forbidden", "not_a_file", "interrupted", "image_refused"})


# Raised when more kinds of files can be read: a row of fewer readers is tried again. 2: libvips, MPO, SGI, PCX, DIB.
READERS = 2
READER_CODES = frozenset({"damaged", "unsupported", "not_an_image", "truncated"})

_ADDED_LATER = {"run_id"}  # by the run that writes the row
_NEEDED = ("image", "page", "name", "source_bytes", "status", "model", "endpoint", "preset", "cost_usd", "kept_usd")
_MONEY = ("cost_usd", "kept_usd")
_TIMES = ("source_modified", "answered_at")
_MOST_USD = Decimal(10**9)  # what decimal128(18, 9) holds


def is_open(row: Row) -> bool:
    """Whether a later run has to try again, although the file has not changed."""
    if row["status"] != "unreadable":
        second = row.get("second") or row
        return row["status"] in OPEN_STATUSES or second["status"] in OPEN_STATUSES
    code = row["error_code"]
    return code in PASSING_CODES or (code in READER_CODES and row.get("readers", 1) < READERS)


@dataclass(frozen=True, slots=True)
class RowTransform:
    """From the original image to the one that was sent: sent = original * scale + offset."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    source_width: int
    source_height: int

    @classmethod
    def of(cls, row: Row) -> "RowTransform":
        """As a row recorded it."""
        return cls(
            scale_x=row["sent_scale_x"],
            scale_y=row["sent_scale_y"],
            offset_x=row["sent_offset_x"],
            offset_y=row["sent_offset_y"],
            source_width=row["source_width"],
            source_height=row["source_height"],
        )


def source_columns(source: Source) -> Row:
    """What storage says of the file; its name for people, its URI as the file system has it."""
    return {
        "image": source.uri,
        "page": 1,
        "name": as_utf8(source.name),
        "source_bytes": source.size,
        "source_modified": source.modified.isoformat() if source.modified else None,
        "source_etag": source.etag,
    }


def question_columns(question: Question, preset: str) -> Row:
    """What was asked."""
    return {
        "model": question.model,
        "endpoint": question.endpoint,
        "preset": preset,
        "prompt_sha256": question.prompt_sha256,
    }


def unprepared_row(source: Source, question: Question, preset: str, error: ImageError) -> Row:
    """The row of a file that could not be sent: it says why."""
    return {
        **source_columns(source),
        **question_columns(question, preset),
        "status": "unreadable",
        "error_code": error.code,
        "error": as_utf8(str(error)),
        "step": 0,
        "attempts": 0,
        "cached": False,
        "cost_usd": "0",
        "kept_usd": "0",
        "readers": READERS,
    }


def unavailable_row(source: Source, question: Question, preset: str, reason: str) -> Row:
    """The row of a file whose storage did not give it out; a later run tries again."""
    row = unprepared_row(source, question, preset, ImageError("storage", reason))
    return {**row, "status": "unavailable"}


def answered_row(source: Source, page: Page, outcome: Outcome, preset: str) -> Row:
    """The row of a page that was asked about, whatever came of it."""
    row = {
        **source_columns(source),
        **sent_columns(page.image),
        **question_columns(outcome.step.question, preset),
        "status": outcome.status,
        "error_code": outcome.error_code,
        "error": outcome.error and as_utf8(outcome.error),
        "step": outcome.step.number,
        "attempts": page.attempts,
        "cached": outcome.cached,
        "duplicate_of": outcome.duplicate_of,
        "cost_usd": str(page.spent),
        "kept_usd": "0",
    }
    if outcome.second is not None:
        row["second"] = _second(outcome.second)
    answer = outcome.answer
    if answer is None:
        return row
    return {
        **row,
        **answer.tokens,
        "answer": answer.text,
        "model_answered": answer.model,
        "request_id": answer.request_id,
        "stop_reason": answer.stop_reason,
        "latency_ms": answer.latency_ms,
        "answered_at": answer.answered_at.isoformat(),
        "kept_usd": str(answer.cost_usd),
    }


def _second(outcome: Outcome) -> Row:
    """What is kept of the second reading; the columns about it follow from both answers (`tasks/scoring`)."""
    answer = outcome.answer
    return {
        "status": outcome.status,
        "error": outcome.error and as_utf8(outcome.error),
        "answer": answer and answer.text,
        "kept_usd": str(answer.cost_usd if answer else 0),
        "cached": outcome.cached,
        "duplicate_of": outcome.duplicate_of,
    }


def sent_columns(image: PreparedImage) -> Row:
    """What was sent, so that a person can redo it."""
    return {
        "page": image.page,
        "source_format": image.source_format,
        "source_width": image.source_width,
        "source_height": image.source_height,
        "sent_sha256": image.sha256,
        "sent_media_type": image.media_type,
        "sent_bytes": image.sent_bytes,
        "sent_width": image.width,
        "sent_height": image.height,
        "sent_scale_x": image.scale_x,
        "sent_scale_y": image.scale_y,
        "sent_offset_x": image.offset_x,
        "sent_offset_y": image.offset_y,
        "note": image.note,
    }


def renewed(row: Row, source: Source, run_id: str = "") -> Row:
    """A kept row as a row of this run, which pays nothing for it, unless another process of this run has."""
    if run_id and row.get("kept_by") == run_id:
        return row
    return {
        **row,
        **{column: value for column, value in source_columns(source).items() if column != "page"},
        "cached": row["status"] != "unreadable",
        "attempts": 0,
        "cost_usd": "0",
        **({"second": {**row["second"], "cached": True}} if row.get("second") else {}),
    }


def typed(row: Row, answer: Callable[[Row], Row] | None) -> Row:
    """The row with times, money and, with a schema, the columns of its good answer, as Parquet takes them."""
    parquet = {column: value for column, value in row.items() if column not in KEPT_ONLY}
    for column in ("source_modified", "answered_at"):
        if parquet.get(column):
            parquet[column] = datetime.fromisoformat(parquet[column])
    parquet["cost_usd"] = Decimal(parquet["cost_usd"])
    if answer is not None and row["status"] == "ok":
        parquet |= answer(row)
    return parquet


def are_rows(value: Any) -> bool:
    """Whether a later run can take all of it into its tables."""
    return isinstance(value, list) and all(map(_is_row, value))


def _is_row(row: Any) -> bool:
    try:
        return (
            all(row[name] is not None for name in _NEEDED)
            and all(type(value) in _TYPES[name] for name, value in row.items())
            and row["status"] in STATUSES
            and all(_fits(row.get(name), most) for name, most in _MOST.items())
            and all(0 <= Decimal(row[name]) < _MOST_USD for name in _MONEY)
            and all(datetime.fromisoformat(row[name]) for name in _TIMES if row.get(name))
        )
    except (TypeError, AttributeError, KeyError, ValueError, InvalidOperation):
        return False


def _fits(value: int | None, most: int) -> bool:
    return value is None or -most <= value < most


def _types(kind: pa.DataType) -> set[type]:
    """Python types of a column's values in a kept row, where times and money are text."""
    if pa.types.is_boolean(kind):
        return {bool, type(None)}
    if pa.types.is_integer(kind):
        return {int, type(None)}
    return {float, int, type(None)} if pa.types.is_floating(kind) else {str, type(None)}


_TYPES = {column.name: _types(column.type) for column in RESULTS if column.name not in _ADDED_LATER}
_TYPES |= {"kept_usd": {str}, "readers": {int}, "second": {dict}, "kept_by": {str}}
_MOST = {column.name: 2 ** (column.type.bit_width - 1) for column in RESULTS if pa.types.is_integer(column.type)}


REVIEWED = ["agreement", "needs_review"]


@dataclass
class Reviews:
    """Adds up as rows come."""

    read_twice: int = 0
    needs_review: int = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count rows of `results`."""
        for row in rows:
            self.read_twice += row.get("agreement") is not None
            self.needs_review += bool(row.get("needs_review"))

    def add_part(self, part: pa.Table) -> None:
        """Count a part of the table; one of the first release, or without a schema, has no such columns."""
        if set(REVIEWED) <= set(part.column_names):
            self.read_twice += part.num_rows - part["agreement"].null_count
            self.needs_review += pc.sum(part["needs_review"]).as_py() or 0
