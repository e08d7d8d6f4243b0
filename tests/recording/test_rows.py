"""Rows of `results`: plain JSON while they are kept, typed when they are written, free when they come back."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from config.models import model_facts
from tasks.asking.answer import Answer
from tasks.asking.pages import Outcome, Page
from tasks.asking.question import Question, Step
from tasks.billing.usage import Usage
from tasks.errors import ImageError
from tasks.recording.rows import (
    Row,
    RowTransform,
    answered_row,
    is_open,
    renewed,
    typed,
    unavailable_row,
    unprepared_row,
)
from tasks.recording.tables import RESULTS
from tasks.types import PreparedImage, Source

SOURCE = Source("s3://in/a.jpg", "a.jpg", 1234, datetime(2026, 11, 23, 12, tzinfo=UTC), "etag")
QUESTION = Question(
    endpoint="anthropic", facts=model_facts("claude-haiku-5-5"), model="claude-haiku-5-5", prompt="What?"
)
IMAGE = PreparedImage(
    page=2,
    data=b"jpeg",
    media_type="image/jpeg",
    sha256="ab" * 32,
    width=500,
    height=250,
    source_format="TIFF",
    source_width=1000,
    source_height=500,
    scale_x=0.5,
    scale_y=0.5,
    offset_x=3.0,
)
ANSWER = Answer(
    text='{"total": "12.50"}',
    stop_reason="end_turn",
    model="claude-haiku-5-5",
    request_id="req_1",
    usage=Usage(input=100, output=20, cache_read=7),
    cost_usd=Decimal("0.000123456"),
    max_tokens=100,
    latency_ms=321,
    answered_at=datetime(2026, 11, 23, 13, tzinfo=UTC),
    run_id="run",
    image=SOURCE.uri,
)


def asked(status: str = "ok", answer: Answer | None = ANSWER, **more: Any) -> Row:
    page = Page(SOURCE.uri, IMAGE, attempts=3, spent=Decimal("0.000200000"))
    return answered_row(SOURCE, page, Outcome(status, Step(1, QUESTION), answer, **more), "ocr")


def written(row: Row) -> dict[str, Any]:
    """The row after a trip through Arrow, with the columns of the table."""
    filled = {"run_id": "run", **typed(row, None)}
    assert set(filled) <= set(RESULTS.names)
    table = pa.Table.from_pylist([filled], schema=RESULTS)
    result: dict[str, Any] = table.to_pylist()[0]
    return result


def test_an_answered_row_says_what_was_sent_asked_and_paid() -> None:
    row = asked()
    assert json.loads(json.dumps(row)) == row, "kept as JSON in Prefect's result store"
    result = written(row)
    assert (result["image"], result["page"], result["source_etag"]) == (SOURCE.uri, 2, "etag")
    assert (result["sent_sha256"], result["sent_bytes"], result["sent_width"]) == ("ab" * 32, 4, 500)
    assert (result["step"], result["attempts"], result["cost_usd"]) == (1, 3, Decimal("0.000200000"))
    assert (result["input_tokens"], result["cache_read_tokens"], result["latency_ms"]) == (100, 7, 321)
    assert result["answered_at"] == ANSWER.answered_at and result["source_modified"] == SOURCE.modified
    assert result["answer"] == ANSWER.text


def test_rows_without_an_answer_say_why() -> None:
    unreadable = written(unprepared_row(SOURCE, QUESTION, "ocr", ImageError("truncated", "The file ends too soon.")))
    assert (unreadable["status"], unreadable["error_code"]) == ("unreadable", "truncated")
    assert unreadable["error"] == "The file ends too soon." and unreadable["cost_usd"] == 0
    away = written(unavailable_row(SOURCE, QUESTION, "ocr", "S3 is away."))
    assert (away["status"], away["error_code"], away["error"]) == ("unavailable", "storage", "S3 is away.")
    rejected = written(asked("rejected", None, error_code="invalid_request_error", error="Too large."))
    assert (rejected["status"], rejected["error"], rejected["answer"]) == ("rejected", "Too large.", None)
    assert rejected["cost_usd"] == Decimal("0.0002"), "earlier attempts were paid"


def test_only_a_reason_that_lies_in_the_file_lasts() -> None:
    def unreadable(code: str) -> Row:
        return unprepared_row(SOURCE, QUESTION, "ocr", ImageError(code, "Why."))

    for code in ("missing", "forbidden", "not_a_file", "interrupted"):
        assert is_open(unreadable(code)), code
    for code in (
        "empty",
        "truncated",
        "damaged",
        "unsupported",
        "not_an_image",
        "too_large",
        "too_many_pixels",
        "too_slow",
        "unsafe",
    ):
        assert not is_open(unreadable(code)), code
    assert is_open(unavailable_row(SOURCE, QUESTION, "ocr", "S3 is away."))
    assert is_open(asked("rejected", None)) and is_open(asked("unasked", None))
    assert not any(is_open(asked(status)) for status in ("ok", "refused", "truncated", "invalid"))


def test_text_for_people_is_utf8_and_the_uri_is_the_file_systems() -> None:
    source = Source("/in/caf\udce9.jpg", "caf\udce9.jpg", 9)
    row = unprepared_row(source, QUESTION, "ocr", ImageError("missing", f"{source.uri} is gone."))
    assert (row["image"], row["name"], row["error"]) == (
        "/in/caf\udce9.jpg",
        r"caf\udce9.jpg",
        r"/in/caf\udce9.jpg is gone.",
    )
    assert asked("rejected", None, error="\ud83d")["error"] == r"\ud83d"


def test_a_kept_row_is_free_and_follows_its_file() -> None:
    moved = Source("s3://in/a.jpg", "renamed/a.jpg", 1234, datetime(2026, 12, 1, tzinfo=UTC), "etag")
    row = renewed(asked(), moved)
    assert (row["cached"], row["cost_usd"], row["attempts"]) == (True, "0", 0)
    assert (row["name"], row["page"], row["answer"]) == ("renamed/a.jpg", 2, ANSWER.text)
    assert row["kept_usd"] == "0.000123456", "what it would have cost again"
    unreadable = renewed(unprepared_row(SOURCE, QUESTION, "ocr", ImageError("empty", "Empty.")), moved)
    assert unreadable["cached"] is False, "no answer was kept"


def test_a_result_is_typed_only_where_the_answer_is_good() -> None:
    def columns(row: Row) -> Row:
        return {"result": json.loads(row["answer"])}

    assert typed(asked(), columns)["result"] == {"total": "12.50"}
    assert "result" not in typed(asked("invalid"), columns), "null in the table"
    assert "result" not in typed(asked(), None)


def test_a_row_remembers_how_its_image_was_turned_into_what_was_sent() -> None:
    assert RowTransform.of(asked()) == RowTransform(0.5, 0.5, 3.0, 0.0, 1000, 500)
