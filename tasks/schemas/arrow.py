"""The Arrow type of the column `result`, and answers as values of it.

JSON Schema                                         Arrow
object with properties                              struct, fields in the schema's order
object without (dict[str, X], one patternProperty)  map<string, X>
array                                               list<X>
string                                              string
string, format date                                 date32
string, format date-time                            timestamp(us, UTC); an offset is required
string or number, format decimal; Pydantic Decimal  decimal128(38, 9); more digits are an error
integer                                             int64; a larger one is an error
number                                              double
boolean                                             bool
enum, const of strings                              string; Parquet has its own dictionaries
enum, const of integers, numbers or booleans        int64, double, bool
null beside another type                            that type (every field is nullable)
anyOf, oneOf of one Arrow type; of integer, number  that type; double
anyOf, oneOf of strings of different kinds          string
anyOf, oneOf of other different types; anything     string holding JSON
"""

import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import pyarrow as pa

from tasks.schemas.tree import Node

DECIMAL = pa.decimal128(38, 9)
TIMESTAMP = pa.timestamp("us", tz="UTC")
TYPES = {
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
    "decimal": DECIMAL,
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
}
EXACT = Context(prec=38, traps=[Inexact, InvalidOperation])
# RFC 3339, which JSON Schema names for both; `fromisoformat` would also take 20260131 and times without an offset.
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
PLAIN_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def arrow_type(node: Node) -> pa.DataType:
    """The Arrow type of a node's values."""
    match node.kind:
        case "object":
            return pa.struct([(child.name, arrow_type(child.node)) for child in node.properties])
        case "list":
            return pa.list_(arrow_type(node.only))
        case "map":
            return pa.map_(pa.string(), arrow_type(node.only))
        case "enum":
            return _enum_type(node.values)
        case "union":
            types = {arrow_type(variant) for variant in node.variants}
            if types == {pa.int64(), pa.float64()}:
                return pa.float64()
            return types.pop() if len(types) == 1 else pa.string()
        case kind:
            return TYPES[kind]


def _enum_type(values: tuple[Any, ...]) -> pa.DataType:
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return pa.string()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def holds_json(node: Node) -> bool:
    """Whether the node's values are of several types, and so are kept as JSON text."""
    if node.kind == "union":
        return arrow_type(node) == pa.string() and not all(_is_text(variant) for variant in node.variants)
    return node.kind == "json" or (node.kind == "enum" and arrow_type(node) == pa.string() and not _is_text(node))


def _is_text(node: Node) -> bool:
    """Whether every value of the node is a JSON string."""
    if node.kind == "enum":
        return {type(value) for value in node.values} == {str}
    if node.kind == "union":
        return all(_is_text(variant) for variant in node.variants)
    return node.kind in ("text", "date", "timestamp") or (node.kind == "decimal" and node.facts.get("type") != "number")


def parse_date(text: str) -> date:
    """A full date of RFC 3339. Raises ValueError."""
    if not DATE.fullmatch(text):
        raise ValueError(f"{text!r} is no date such as 2026-01-31")
    return date.fromisoformat(text)


def parse_date_time(text: str) -> datetime:
    """A time of RFC 3339, in UTC. Raises ValueError, also for a time without an offset."""
    if not DATE_TIME.fullmatch(text.upper()):
        raise ValueError(f"{text!r} is no time with an offset such as 2026-01-31T18:05:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999") from None


def parse_decimal(value: str | int | Decimal) -> Decimal:
    """A number that decimal128(38, 9) holds exactly. Raises ValueError."""
    if isinstance(value, str) and not PLAIN_DECIMAL.fullmatch(value):
        raise ValueError(f"{value!r} is no decimal number such as 12.50")
    try:
        return Decimal(value).quantize(Decimal("1e-9"), context=EXACT)
    except (Inexact, InvalidOperation):
        raise ValueError(f"{value} has more than 29 digits before or 9 after the point") from None


def plain(value: Any) -> Any:
    """The value with floats in place of the Decimals in which JSON numbers are read."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


def json_text(value: Any) -> str:
    """An answer's value as JSON. Raises ValueError for a number that a double cannot hold."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def scalar(node: Node, value: Any) -> Any:
    """A text, number or boolean as Arrow takes it. Raises ValueError if it does not fit."""
    match node.kind:
        case "date":
            return parse_date(value)
        case "timestamp":
            return parse_date_time(value)
        case "decimal":
            return parse_decimal(value)
        case "integer":
            return _int64(value)
        case "number":
            return _double(value)
        case "text":
            value.encode()  # JSON may hold half a surrogate pair, Parquet may not
            return value
    if node.kind == "enum":
        of = arrow_type(node)
        return _int64(value) if of == pa.int64() else _double(value) if of == pa.float64() else value
    return value


def _int64(value: int | Decimal) -> int:
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{value} does not fit into 64 bits")
    return whole


def _double(value: int | Decimal) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("the number is too large for a double")
    return number
