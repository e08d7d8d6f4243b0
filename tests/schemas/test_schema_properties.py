"""Over generated schemas: what the API accepts, it may answer, and every such answer is kept in full."""

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tasks.errors import SchemaError
from tasks.schemas import AnswerSchema
from tasks.schemas.loading import build_schema
from tasks.simulator.schema_rules import check_schema
from tests.api_rules import broken_rules
from tests.runs import examples

NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
# Only types, no bounds: whatever the API may answer must then fit.
SCALARS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "decimal", "title": "Price"},
    {"type": "number", "format": "decimal", "title": "Price"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": ["integer", "null"]},
    {"enum": ["cash", "card", None]},
    {"enum": [1, 2, 3]},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"oneOf": [{"type": "boolean"}, {"type": "string", "format": "date"}, {"type": "null"}]},
]


def objects(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, fields, min_size=1, max_size=5))
        required = [name for name in properties if draw(st.booleans())]
        return {"type": "object", "properties": properties, "required": required}

    return build()


def nested(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        fields.map(lambda items: {"type": "array", "items": items}),
        fields.map(lambda values: {"type": "object", "additionalProperties": values}),
        objects(fields),
        objects(fields).map(lambda one: {"anyOf": [one, {"type": "null"}]}),
    )


SCHEMAS = objects(st.recursive(st.sampled_from(SCALARS), nested, max_leaves=8))


# A day away from either end, so that no offset leaves the years that there are; RFC 3339 has offsets in whole minutes.
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).flatmap(  # noqa: DTZ001 - the offset follows
    lambda time: st.integers(-1439, 1439).map(lambda minutes: time.replace(tzinfo=timezone(timedelta(minutes=minutes))))
)
PRICES = st.integers(-(10**14), 10**14).map(lambda cents: cents / 100)

PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "date": st.dates().map(date.isoformat),
    "date-time": TIMES.map(datetime.isoformat),
    "string": TEXT,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "null": st.none(),
}


def answers(api: dict[str, Any], title: str = "") -> st.SearchStrategy[Any]:
    """What the API may answer to a schema that it was sent; a price only what is one."""
    title = api.get("title", title)
    if "anyOf" in api:
        return st.one_of([answers(one, title) for one in api["anyOf"]])
    if "enum" in api:
        values = st.sampled_from(api["enum"])
        return values.map(lambda value: value.upper() if isinstance(value, str) else value)
    if api["type"] == "object":
        required = {name: answers(api["properties"][name]) for name in api["required"]}
        optional = {name: answers(one) for name, one in api["properties"].items() if name not in required}
        return st.fixed_dictionaries(required, optional=optional)
    if api["type"] == "array":
        is_map = api["items"].get("properties", {}).keys() == {"key", "value"}
        unique = (lambda entry: entry["key"]) if is_map else None
        return st.lists(answers(api["items"]), max_size=3, unique_by=unique)
    if title == "Price" and api["type"] != "null":
        return PRICES.map(str) if api["type"] == "string" else PRICES
    return PLAIN[api.get("format", api["type"])]


def build(source: dict[str, Any]) -> AnswerSchema | None:
    """The schema, or None if it is larger than the API takes."""
    try:
        return build_schema("generated", source, label="generated")
    except SchemaError as error:
        if "the API takes" in str(error):
            return None
        raise


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_every_answer_to_an_accepted_schema_is_kept(data: st.DataObject) -> None:
    source = data.draw(SCHEMAS)
    of = build(source)
    if of is None:
        return
    assert broken_rules(of.api) == []
    check_schema(of.api)
    answer = data.draw(answers(of.api))
    assert Draft202012Validator(of.api).is_valid(answer) or "CA" in json.dumps(answer)  # capitals of an enum

    fitted = of.fit(json.dumps(answer, ensure_ascii=False))
    assert fitted.errors == []
    table = pa.table({"result": pa.array([fitted.value, None], type=of.arrow)})
    file = BytesIO()
    pq.write_table(table, file)
    read = pq.read_table(file)
    assert read.column("result").to_pylist() == [fitted.value, None]
    assert lost(answer, fitted.value) == []


def lost(answer: Any, value: Any, path: str = "$") -> list[str]:
    """Fields of the answer that are not in the value; scalars are compared as text."""
    if isinstance(answer, dict) and isinstance(value, dict):
        return [line for name in answer for line in lost(answer[name], value[name], f"{path}.{name}")]
    if isinstance(answer, list) and isinstance(value, list) and len(answer) == len(value):
        pairs = zip(answer, value, strict=True)
        return [line for one, two in pairs for line in lost(one, two, f"{path}[]")]
    if isinstance(answer, dict) and isinstance(value, tuple):
        return lost([answer["key"], answer["value"]], list(value), path)
    if isinstance(value, datetime):
        return [] if datetime.fromisoformat(answer) == value else [path]
    if isinstance(value, date):
        return [] if answer == value.isoformat() else [path]
    if isinstance(value, Decimal):
        return [] if value == Decimal(str(answer)) else [path]
    if isinstance(value, str) and answer != value:
        same = isinstance(answer, str) and answer.casefold() == value.casefold()
        return [] if same or json.loads(value) == answer else [path]
    return [] if answer == value else [path]


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
@given(SCHEMAS, st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT, st.lists))
def test_no_answer_whatever_makes_fitting_fail(source: dict[str, Any], answer: Any) -> None:
    of = build(source)
    if of is None:
        return
    for text in (json.dumps(answer), json.dumps(dict.fromkeys(source["properties"], answer)), str(answer)):
        fitted = of.fit(text)
        assert (fitted.value is None) == bool(fitted.errors)
        pa.array([fitted.value], type=of.arrow)
