"""Output schemas: which the simulator refuses, and that its answers fit the others."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from config.presets import ready_schemas
from tasks.schemas import load_schema
from tasks.simulator.catalogue import ApiError
from tasks.simulator.fields import Facts, find_facts
from tasks.simulator.fill import fill
from tasks.simulator.schema_rules import check_schema
from tests.runs import examples
from tests.simulator_requests import (
    strict,
)

NESTED = {"$defs": {"A": strict(b={"$ref": "#/$defs/B"}), "B": strict(a={"$ref": "#/$defs/A"})}}


REFUSED_SCHEMAS: dict[str, tuple[dict[str, Any], str]] = {
    "open object": ({"type": "object", "properties": {}}, "additionalProperties"),
    "open object inside": (strict(a={"type": "array", "items": {"type": "object"}}), "additionalProperties"),
    "bound": (strict(n={"type": "number", "minimum": 0}), "minimum"),
    "length": (strict(s={"type": "string", "maxLength": 3}), "maxLength"),
    "array length": (strict(a={"type": "array", "items": {"type": "string"}, "minItems": 2}), "minItems"),
    "oneOf": (strict(a={"oneOf": [{"type": "string"}, {"type": "null"}]}), "oneOf"),
    "recursion": (strict(a={"$ref": "#/$defs/A"}) | NESTED, "Recursive"),
    "recursion through the root": (strict(a={"$ref": "#"}), "Recursive"),
    "recursion through a property": (strict(a=strict(b={"$ref": "#/properties/a"})), "Recursive"),
    "external reference": (strict(a={"$ref": "https://example.com/a.json"}), "external"),
    "reference to nothing": (strict(a={"$ref": "#/$defs/none"}), "resolved"),
    "allOf with reference": (
        strict(a={"allOf": [{"$ref": "#/$defs/S"}]}) | {"$defs": {"S": {"type": "string"}}},
        "allOf",
    ),
    "enum of objects": (strict(a={"enum": [{"x": 1}]}), "enum"),
    "lookahead": (strict(a={"type": "string", "pattern": "^(?=a)"}), "pattern"),
    "unknown format": (strict(a={"type": "string", "format": "phone"}), "phone"),
    "no schema at all": ({"type": "strnig"}, "Invalid JSON schema"),
    "25 optional": (strict() | {"properties": {f"p{n}": {"type": "string"} for n in range(25)}}, "optional"),
    "17 unions": (strict(**{f"p{n}": {"type": ["string", "null"]} for n in range(17)}), "union"),
}


@pytest.mark.parametrize("case", REFUSED_SCHEMAS)
def test_a_schema_the_api_refuses(case: str) -> None:
    schema, part = REFUSED_SCHEMAS[case]
    with pytest.raises(ApiError, match=re.escape(part)) as error:
        check_schema(schema)
    assert error.value.status == 400


def test_limits_of_optional_and_union_parameters_are_met_exactly() -> None:
    check_schema(strict() | {"properties": {f"p{n}": {"type": "string"} for n in range(24)}})
    check_schema(strict(**{f"p{n}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for n in range(16)}))


def test_a_property_may_be_called_like_a_keyword() -> None:
    check_schema(strict(minimum={"type": "number"}, oneOf={"type": "string"}, format={"type": "string"}))


SCALARS = st.one_of(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "number"},
            {"type": "integer"},
            {"type": "boolean"},
            {"type": "null"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "uuid"},
            {"type": "string", "pattern": "^[A-Z]{3}$"},
            {"type": ["integer", "null"]},
            {"const": 7},
            {"$ref": "#/$defs/money"},
        ]
    ),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), min_size=1).map(lambda v: {"enum": v}),
)


NAMES = st.sampled_from(["text", "total", "date", "company", "items", "quantity", "currency", "other", "description"])


SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=4).map(lambda properties: strict(**properties)),
        st.tuples(inner, st.sampled_from([0, 1])).map(lambda t: {"type": "array", "items": t[0], "minItems": t[1]}),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=8,
)


MONEY = {"money": {"type": "string", "pattern": "^[0-9]+$"}}


RECEIPT_TEXT = """CORNER CAFE LTD
12 Mill Lane, Leeds
Date 03/04/2026
2 Flat white 7.00
Scone 3.20
Subtotal £10.20
VAT 2.04
TOTAL 12.24"""


@settings(max_examples=examples(300))
@given(st.dictionaries(NAMES, SCHEMAS, max_size=4), st.sampled_from([Facts(), find_facts(RECEIPT_TEXT)]))
def test_the_answer_fits_any_schema(properties: dict[str, Any], facts: Facts) -> None:
    schema = strict(**properties) | {"$defs": MONEY}
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert list(validator.iter_errors(fill(schema, facts))) == []


@pytest.mark.parametrize("name", ready_schemas())
@pytest.mark.parametrize("facts", [find_facts(RECEIPT_TEXT), Facts(remark="The simulator did not look.")])
def test_every_ready_schema_is_taken_as_it_is_sent_and_the_answer_keeps_the_schema(name: str, facts: Facts) -> None:
    schema = load_schema(name)
    check_schema(schema.api)
    answer = json.dumps(fill(schema.api, facts))
    assert schema.fit(answer).errors == []


def test_seller_and_buyer_are_not_mixed_up() -> None:
    party = strict(name={"type": "string"}, address={"type": "string"})
    filled = fill(strict(seller=party, buyer=party), find_facts(RECEIPT_TEXT))
    assert filled["seller"] == {"name": "CORNER CAFE LTD", "address": "12 Mill Lane, Leeds"}
    assert filled["buyer"] == {"name": "", "address": ""}


def test_facts_are_those_printed() -> None:
    facts = find_facts(RECEIPT_TEXT)
    expected = {"company": "CORNER CAFE LTD", "date": "2026-04-03", "total": 12.24, "subtotal": 10.2, "tax": 2.04}
    assert {name: facts.values[name] for name in expected} == expected
    assert facts.known("currency") == "GBP"
    assert [item["description"] for item in facts.values["items"]] == ["Flat white", "Scone"]
    assert find_facts("a photo of nothing").values == {"company": "a photo of nothing"}
