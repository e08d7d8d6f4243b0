"""A user's schema: sent as the API takes it, enforced as it was written, kept in Arrow's types."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from config.presets import ready_schemas
from tasks.errors import SchemaError
from tasks.schemas import load_schema
from tasks.schemas.loading import build_schema
from tests.api_rules import broken_rules
from tests.schemas import errors, fitted, schema

# What is sent


@pytest.mark.parametrize("name", ready_schemas())
def test_ready_schemas_are_taken_by_the_api(name: str) -> None:
    ready = load_schema(name)
    assert broken_rules(ready.api) == []
    assert ready.arrow.num_fields > 0


def test_what_the_api_does_not_take_becomes_words() -> None:
    sent = schema(
        age={"type": "integer", "description": "In years.", "minimum": 1, "maximum": 120},
        code={"type": "string", "pattern": "^[A-Z]+$", "format": "iban"},
        names={"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    ).api
    assert broken_rules(sent) == []
    assert sent["properties"] == {
        "age": {"description": "In years. {minimum: 1, maximum: 120}", "type": "integer"},
        "code": {"description": '{pattern: "^[A-Z]+$", format: "iban"}', "type": "string"},
        "names": {
            "description": "{minItems: 3, uniqueItems: true}",
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
        },
    }


def test_an_open_map_is_asked_as_entries_and_comes_back_as_a_map() -> None:
    of = schema(prices={"type": "object", "additionalProperties": {"type": "string", "format": "decimal"}})
    assert broken_rules(of.api) == []
    assert of.api["properties"]["prices"]["items"]["required"] == ["key", "value"]
    assert of.arrow.field("prices").type == pa.map_(pa.string(), pa.decimal128(38, 9))
    answer = {"prices": [{"key": "tea", "value": "1.20"}, {"key": "rice", "value": "2"}]}
    assert fitted(of, answer) == {"prices": [("tea", Decimal("1.2")), ("rice", Decimal(2))]}
    assert "twice" in errors(of, {"prices": [{"key": "tea", "value": "1"}, {"key": "tea", "value": "2"}]})


@pytest.mark.parametrize("count", [10, 16, 17, 40])
def test_many_optional_fields_keep_both_limits(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    source = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    of = build_schema("many", source, label="many")
    assert broken_rules(of.api) == []
    assert fitted(of, dict.fromkeys(of.api["required"])) == dict.fromkeys(names)
    assert fitted(of, dict.fromkeys(names, 7)) == dict.fromkeys(names, 7)


def test_texts_and_lists_past_the_limits_say_by_being_empty_that_there_is_none() -> None:
    kinds: list[dict[str, Any]] = [{"type": "integer"}] * 40 + [{"type": "string", "minLength": 2}, {"type": "array"}]
    properties = {f"n{number}": kind for number, kind in enumerate(kinds)}
    of = build_schema("many", {"type": "object", "properties": properties}, label="many")
    assert broken_rules(of.api) == []
    answer = dict.fromkeys(of.api["required"]) | {"n40": "", "n41": []}
    assert fitted(of, answer) == dict.fromkeys(properties)


def test_more_optional_numbers_than_the_api_takes_are_refused() -> None:
    properties = {f"n{number}": {"type": "integer"} for number in range(41)}
    with pytest.raises(SchemaError, match="41 fields may be absent or null, such as 'n40'; the API takes 40"):
        build_schema("many", {"type": "object", "properties": properties}, label="many")


def test_more_fields_of_several_types_than_the_api_takes_are_refused() -> None:
    several = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    with pytest.raises(SchemaError, match="17 fields may have values of several types; the API takes 16"):
        schema(**{f"n{number}": several for number in range(17)})


def test_all_of_and_references_are_merged() -> None:
    source = {
        "$defs": {
            "base": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            "price": {"type": "number", "description": "In euros."},
        },
        "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"price": {"$ref": "#/$defs/price", "minimum": 0}}}],
        "required": ["price"],
    }
    of = build_schema("merged", source, label="merged")
    assert broken_rules(of.api) == []
    assert of.api["properties"]["price"] == {"description": "In euros. {minimum: 0}", "type": "number"}
    assert of.arrow == pa.struct([("name", pa.string()), ("price", pa.float64())])
    assert "-1" in errors(of, {"name": "tea", "price": -1})


def test_a_schema_that_is_no_object_is_asked_inside_one() -> None:
    of = build_schema("list", {"type": "array", "items": {"type": "integer"}, "maxItems": 2}, label="list")
    assert of.api["required"] == ["value"]
    assert fitted(of, {"value": [1, 2]}) == {"value": [1, 2]}
    assert "too long" in errors(of, {"value": [1, 2, 3]})
    assert "'value' is a required property" in errors(of, {})


# What comes back


def test_every_kind_of_value_has_its_arrow_type() -> None:
    of = schema(
        text={"type": "string"},
        day={"type": "string", "format": "date"},
        at={"type": "string", "format": "date-time"},
        price={"type": "string", "format": "decimal"},
        weight={"type": "number", "format": "decimal"},
        count={"type": "integer"},
        ratio={"type": "number"},
        good={"type": "boolean"},
        kind={"enum": ["cash", "card"]},
        rank={"enum": [1, 2]},
        maybe={"type": ["string", "null"]},
        either={"anyOf": [{"type": "integer"}, {"type": "number"}]},
        mixed={"oneOf": [{"type": "integer"}, {"type": "object", "properties": {"a": {"type": "string"}}}]},
        when={"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "maxLength": 5}]},
        anything={},
        lines={"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    )
    assert broken_rules(of.api) == []
    assert {field.name: str(field.type) for field in of.arrow} == {
        "text": "string",
        "day": "date32[day]",
        "at": "timestamp[us, tz=UTC]",
        "price": "decimal128(38, 9)",
        "weight": "decimal128(38, 9)",
        "count": "int64",
        "ratio": "double",
        "good": "bool",
        "kind": "string",
        "rank": "int64",
        "maybe": "string",
        "either": "double",
        "mixed": "string",
        "when": "string",
        "anything": "string",
        "lines": "list<item: struct<n: int64>>",
    }
    answer = """{"text": "a", "day": "2018-12-25", "at": "2018-12-25T20:13:39+08:00", "price": "12.50",
        "weight": 0.1, "count": 3, "ratio": 1, "good": true, "kind": "CASH", "rank": 2, "maybe": null, "either": 2,
        "mixed": {"a": "x"}, "when": "later", "anything": "[1, null]", "lines": [{"n": 1}, {"n": null}]}"""
    assert fitted(of, answer) == {
        "text": "a",
        "day": date(2018, 12, 25),
        "at": datetime(2018, 12, 25, 12, 13, 39, tzinfo=UTC),
        "price": Decimal("12.50"),
        "weight": Decimal("0.1"),
        "count": 3,
        "ratio": 1.0,
        "good": True,
        "kind": "cash",
        "rank": 2,
        "maybe": None,
        "either": 2.0,
        "mixed": '{"a":"x"}',
        "when": "later",
        "anything": "[1,null]",
        "lines": [{"n": 1}, {"n": None}],
    }


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, 9, 10),
        ({"type": "number", "exclusiveMinimum": 0}, 0.5, 0),
        ({"type": "number", "multipleOf": 0.01}, 19.99, 19.995),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "MYR", "myr"),
        ({"type": "string", "maxLength": 3}, "abc", "abcd"),
        ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
        ({"type": "string", "format": "date"}, "2024-02-29", "20240229"),
        ({"type": "string", "format": "date-time"}, "2024-02-29T10:00:00Z", "2024-02-29T10:00:00"),
        ({"type": "string", "format": "decimal"}, "-0.000000001", "0.0000000001"),
        ({"type": "string", "format": "decimal"}, "1e3", "1,000.00"),
        ({"type": "string", "format": "time"}, "23:59:00Z", "24:00:00Z"),
        ({"type": "string", "format": "duration"}, "P1DT2H", "P"),
        ({"type": "string", "format": "email"}, "a@example.org", "a"),
        ({"type": "string", "format": "hostname"}, "example.org", "-a.example"),
        ({"type": "string", "format": "uri"}, "https://example.org/a", "example"),
        ({"type": "string", "format": "ipv4"}, "192.0.2.1", "192.0.2.256"),
        ({"type": "string", "format": "uuid"}, "123e4567-e89b-12d3-a456-426614174000", "123"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [1, 2], [1, 1]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, [1], [1, 2]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [1, "a"], ["a", 1]),
        ({"enum": ["a", "b"]}, "B", "c"),
        ({"const": "Invoice"}, "INVOICE", "receipt"),
        ({"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 2}]}, 9, 6),
        ({"type": "string", "not": {"const": "unknown"}}, "tea", "unknown"),
        ({"type": "integer"}, 2**63 - 1, 2**63),
        ({"type": "number"}, 1e308, 10**400),
        ({"type": "string"}, "a", "\ud800"),
        ({"type": "array", "items": {"type": "boolean"}}, [True], [1]),
    ],
)
def test_the_user_s_own_rules_are_enforced(rule: dict[str, Any], good: Any, bad: Any) -> None:
    of = schema(field=rule)
    assert broken_rules(of.api) == []
    fitted(of, {"field": good})
    assert errors(of, {"field": bad}).startswith("$.field")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no JSON"),
        ('{"a": 1', "no JSON"),
        ('```json\n{"a": 1}\n```', "no JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000, "no JSON"),
        ("[1]", "is not of type 'object'"),
        ('{"a": 1, "b": 2}', "'b' is no field"),
        ("{}", "'a' is a required property"),
        ('{"a": null}', "None is not of type 'integer'"),
        ('{"a": "1"}', "'1' is not of type 'integer'"),
    ],
)
def test_an_answer_that_does_not_fit_says_where_and_why(answer: str, reason: str) -> None:
    assert reason in errors(schema(a={"type": "integer"}), answer)


@pytest.mark.parametrize("depth", [101, 500, 980, 100_000])
@pytest.mark.parametrize("around", ["{}", '{{"name": {}}}', '{{"anything": {}}}', '{{"unknown": {}}}'])
def test_an_answer_of_endless_brackets_does_not_fit(around: str, depth: int) -> None:
    of = schema(name={"type": "string"}, anything={})
    for brackets in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        assert "more than 100 arrays and objects" in errors(of, around.format(brackets))


def test_json_as_deep_as_may_be_fits_however_deep_the_caller_stands() -> None:
    deep = "[" * 99 + "]" * 99
    of = schema(anything={})

    def stand(frames: int) -> Any:
        return stand(frames - 1) if frames else fitted(of, {"anything": deep})

    assert stand(300) == {"anything": deep}
    assert "more than 100" in errors(of, {"anything": f"[[{deep}]]"})


def test_conditions_across_fields_are_enforced() -> None:
    source = {
        "type": "object",
        "properties": {"paid": {"type": "boolean"}, "method": {"type": "string"}},
        "required": ["paid"],
        "if": {"properties": {"paid": {"const": True}}},
        "then": {"required": ["method"]},
    }
    of = build_schema("paid", source, label="paid")
    assert broken_rules(of.api) == []
    assert fitted(of, {"paid": False, "method": None}) == {"paid": False, "method": None}
    assert "'method' is a required property" in errors(of, {"paid": True, "method": None})
