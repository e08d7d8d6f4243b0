"""Figures of the report and their words: calls in flight, answers a second, latencies, durations, shares, values."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tasks.recording.writer import table_schema, to_table
from tasks.reporting import charts, html
from tasks.reporting.gallery import people
from tasks.schemas.boxes import named_boxes


def calls_at(*spans: tuple[float, float], outcome: str = "answered", status: int = 200) -> pa.Table:
    """Calls by their start and length in seconds."""
    origin = datetime(2026, 11, 23, tzinfo=UTC)
    rows = [
        {
            "started_at": origin + timedelta(seconds=start),
            "latency_ms": round(length * 1000),
            "outcome": outcome,
            "http_status": status,
        }
        for start, length in spans
    ]
    return to_table(rows, table_schema("calls"))


def test_calls_in_flight_are_the_time_calls_took() -> None:
    # Two calls of 6 s, one half over the other, and one of 3 s: 15 s of waiting within 12 s.
    chart = charts.in_flight(calls_at((0, 6), (3, 6), (9, 3)))
    assert chart is not None
    assert chart.peak == 2
    assert chart.mean == pytest.approx(15 / 12)
    assert [tick.value for tick in chart.ticks] == [0, 5, 10]


def test_answers_a_second_count_what_was_answered() -> None:
    lost = calls_at((0, 10), outcome="overloaded", status=529)
    chart = charts.answered(pa.concat_tables([calls_at(*((0, second) for second in range(1, 13))), lost]))
    assert chart is not None
    assert chart.mean == pytest.approx(1)
    assert charts.answered(lost) is None
    braked = charts.in_flight(lost)
    assert braked is not None
    assert len(braked.marks) == 1


def test_one_call_that_hung_does_not_hide_the_others() -> None:
    latencies = pa.chunked_array([[1000 + 10 * i for i in range(200)] + [600_000]])
    chart = charts.histogram(latencies)
    assert chart is not None
    assert chart.open_ended
    assert chart.bars[-1].count == 1
    assert len(chart.bars) > 10
    assert sum(bar.count for bar in chart.bars) == 201
    assert chart.quantiles["longest"] == 600
    assert charts.histogram(latencies.slice(0, 0)) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.042, "0.04 s"),
        (8.44, "8.4 s"),
        (31.2, "31 s"),
        (59.7, "1 min"),
        (252, "4 min 12 s"),
        (7380, "2 h 3 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, words: str) -> None:
    assert html.duration(seconds) == words


def test_shares_too_small_to_show_are_not_shown_as_none() -> None:
    assert (html.percent(0.01), html.percent(0), html.percent(1, 3)) == ("under 0.1 %", "0.0 %", "33.3 %")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Decimal("1234.500000000"), "1,234.50"),
        (Decimal("0.125"), "0.125"),
        (Decimal("-12345678901234567890123456789.000000001"), "-12,345,678,901,234,567,890,123,456,789.000000001"),
        (Decimal("1E+30"), "1,000,000,000,000,000,000,000,000,000,000.00"),
        (2018, "2018"),
        (True, "yes"),
        (None, "–"),
    ],
)
def test_values_read_as_people_write_them(value: Any, words: str) -> None:
    assert people(value) == words


def test_boxes_are_found_with_the_name_of_what_they_are_of() -> None:
    found = {"objects": [{"label": "cat", "box": {"left": 1, "top": 2, "right": 11, "bottom": 22}}]}
    assert list(named_boxes(found)) == [("cat", (1, 2, 10, 20))]
