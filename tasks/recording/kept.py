"""Whether what was kept as rows of a finished batch is that: a record without a checksum may be anything."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from tasks.recording.tables import RESULTS, STATUSES

_ADDED_LATER = {"run_id"}  # by the run that writes the row
_NEEDED = ("image", "page", "name", "source_bytes", "status", "model", "endpoint", "preset", "cost_usd", "kept_usd")
_MONEY = ("cost_usd", "kept_usd")
_TIMES = ("source_modified", "answered_at")
_MOST_USD = Decimal(10**9)  # what decimal128(18, 9) holds


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
