"""Whatever schema is accepted and whatever an answer says: a check ends soon, raises nothing and fetches nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from config.job import Job
from flows import analyze_images
from tasks.errors import SchemaError
from tasks.schemas import load_schema
from tasks.schemas.enforcing import LONGEST_ANSWER, compiled
from tasks.schemas.loading import build_schema
from tasks.simulator import Simulator
from tests.runs import draw, examples
from tests.schemas import checked, field, of

# Patterns

SLOW = ["^(a+)+$", "(a|a)*$", "^(a|aa)+$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)(.*)(.*)(.*)[^a]$"]


@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_that_backtracks_for_ever_elsewhere_is_matched_at_once(pattern: str) -> None:
    schema = field(type="string", pattern=pattern)
    assert checked(schema, json.dumps({"a": "a" * 35 + "!"})).code == "schema" or "." in pattern
    checked(schema, json.dumps({"a": "a" * 100_000 + "!"}))
    names = of(patternProperties={pattern: {"type": "string"}}, additionalProperties=False)
    checked(names, json.dumps({"a" * 35 + "!": ""}))


def test_a_long_text_against_a_large_pattern_is_too_complex_a_short_one_is_not() -> None:
    schema = field(type="string", pattern="1[01]{1000}x")
    fitted = checked(schema, json.dumps({"a": "10" * 150_000}))
    assert (fitted.code, fitted.errors) == ("too_complex", ["$: checking it takes more than 100,000 steps"])
    assert checked(schema, json.dumps({"a": "1" * 1001 + "x"})).value is not None


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\d+$", "12", "١٢"),  # Python's \d takes every script's digits
        (r"^a$", "a", "a\n"),  # Python's $ stands before a last line break too
        (r"^\p{L}+$", "é", "1"),
        (r"^\p{Script=Greek}$", "α", "a"),
        (r"^\u0041\x42\cJ$", "AB\n", "AB"),
        (r"^\s$", "\ufeff", "s"),
        (r"^.$", "😀", "\u2028"),
        (r"^[a&&b]$", "&", "c"),
        ("^.$", "a", "\ud800\ud800"),
    ],
)
def test_patterns_are_ecma_262(pattern: str, fits: str, does_not: str) -> None:
    schema = field(type="string", pattern=pattern)
    assert checked(schema, json.dumps({"a": fits})).value == {"a": fits}
    assert checked(schema, json.dumps({"a": does_not})).value is None


@pytest.mark.parametrize(
    "pattern", ["(", r"^(a)\1$", "(?=a)", "(?<!a)b", r"\Z", r"\Aa", r"\<b", "(?i)a", "a{1000}{1000}"]
)
@pytest.mark.parametrize("where", ["pattern", "patternProperties"])
def test_a_pattern_that_the_engine_does_not_take_is_refused_with_its_place(pattern: str, where: str) -> None:
    value = pattern if where == "pattern" else {pattern: True}
    with pytest.raises(SchemaError) as caught:
        field(type="string", **{"not": {where: value}})
    assert f"$.properties.a.not.{where}: the pattern " in str(caught.value)
    assert str(caught.value).endswith("Write it another way.")
    assert "\n" not in str(caught.value)


# Size


def test_schemas_that_blow_up_are_refused() -> None:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)}
    with pytest.raises(SchemaError, match="more than 5,000 parts, references followed"):
        of(properties={"a": True}, **{"not": {"$ref": "#/$defs/d0"}, "$defs": {**doubling, "d20": {"type": "string"}}})
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(60):
        deep = {"not": deep}
    with pytest.raises(SchemaError, match="more than 50 levels"):
        field(**deep)
    for _ in range(5_000):
        deep = {"not": deep}
    with pytest.raises(SchemaError, match="more than 100 arrays and objects"):
        field(**deep)
    with pytest.raises(SchemaError, match="characters"):
        field(enum=["x" * 300_000])


def test_a_file_without_end_is_no_schema(tmp_path: Path) -> None:
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    with pytest.raises(SchemaError, match="pipe or a device"):
        load_schema(str(tmp_path / "endless.json"))


MIXED = json.dumps([[n, str(n), {"a": n}] for n in range(20_000)])
HEAVY: list[tuple[dict[str, Any], str]] = [
    ({"type": "array", "uniqueItems": True}, MIXED),
    ({"type": "array", "uniqueItems": True}, json.dumps([n * (2**61 - 1) for n in range(30_000)])),  # one hash for all
    ({"enum": [f"v{n}" for n in range(10_000)]}, '"w"'),
    ({"type": "array", "items": {"enum": [f"v{n}" for n in range(10_000)]}}, json.dumps(["w"] * 50_000)),
    ({"type": "array", "items": {"not": {"enum": [[n] for n in range(10_000)]}}}, json.dumps([[-1]] * 50_000)),
    ({"type": "array", "items": {"type": "number", "multipleOf": 0.01}}, "[" + "1e308," * 20_000 + "1]"),
    ({"type": "number", "multipleOf": 0.01}, "1e300"),
    ({"type": "integer"}, "1e999999999"),
    ({"type": "integer"}, "9" * 4000),
    ({"type": "number"}, "9" * 500_000 + ".5"),
    ({"type": "number"}, "1e99999999999999999999"),
    ({"type": "string", "format": "decimal"}, json.dumps("9" * 900_000)),
    ({"type": "string", "format": "duration"}, json.dumps("P" + "1" * 900_000)),
    ({"type": "string", "format": "regex"}, json.dumps("(" * 300_000)),
    ({"type": "string", "format": "ipv6"}, json.dumps(":" * 900_000)),
    ({"type": "string", "format": "uri"}, json.dumps("http://[" * 9_000)),
    ({"type": "string", "format": "hostname"}, json.dumps("a." * 400_000)),
    ({"not": {"anyOf": [{"type": "string"}] * 4_000}}, MIXED),
    ({"anyOf": [{"type": "string", "pattern": "^(a+)+$"}, {"type": "integer"}]}, json.dumps("a" * 900_000 + "!")),
    (
        {"additionalProperties": {"type": "array", "items": {"type": "integer"}}},
        json.dumps({"k" * 500_000: [1] * 90_000}),
    ),
    ({"properties": {"b": {"type": "string"}}}, json.dumps({str(n): n for n in range(60_000)})),
    ({"properties": {"b": {"type": "string"}}}, "5"),
    ({"items": {"type": "string"}}, "5"),
    ({"type": "array", "items": {"type": ["number", "null"]}, "x-box": "pixels"}, "[1, null, 2, 3]"),
    ({}, "[" * 100 + "]" * 100),
    ({}, json.dumps("[" * 90 + "]" * 90)),
    ({}, "[" * 400_000),
    ({"type": "string"}, json.dumps("\ud800")),
    ({"type": "string"}, json.dumps("x" * LONGEST_ANSWER)),
]


@pytest.mark.parametrize(("keywords", "value"), HEAVY, ids=[f"{n}" for n in range(len(HEAVY))])
def test_no_value_makes_a_check_long_large_or_fail(keywords: dict[str, Any], value: str) -> None:
    schema = field(**keywords)
    fitted = checked(schema, f'{{"a": {value}}}')
    if fitted.value is not None and schema.boxes:
        schema.map_boxes(fitted.value, Whole())


class Whole:
    """The sent image is the original."""

    scale_x = scale_y = 1.0
    offset_x = offset_y = 0.0
    source_width = source_height = 100


def test_a_model_s_own_check_may_raise_anything() -> None:
    class Odd(BaseModel):
        a: str

        @field_validator("a")
        @classmethod
        def look(cls, value: str) -> str:
            raise KeyError(value)

    schema = build_schema("Odd", Odd.model_json_schema(), label="Odd", model=Odd)
    assert checked(schema, '{"a": "b"}').errors == ["$: the model's own check failed: KeyError: 'b'"]


# Any schema, any answer

WORDS = st.sampled_from(["a", "b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "", "1", "é", "\ud800", "2026-01-31"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.sampled_from([10**300, 2**63, 1e308, -0.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.sampled_from([0, 1, 2, 0.01, 1e-300, 1e300, 3])
COUNTS = st.integers(0, 3)
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["string", "integer", "number", "boolean", "object", "array", ["string", "null"]]),
    "pattern": st.sampled_from([*SLOW, r"^\p{L}*$", "(?=a)", r"(a)\1", "("]),
    "format": st.sampled_from(
        ["date", "date-time", "decimal", "regex", "uri", "ipv4", "ipv6", "uuid", "email", "time"]
    ),
    "minimum": NUMBERS,
    "multipleOf": NUMBERS.filter(bool),
    "minLength": COUNTS,
    "minItems": COUNTS,
    "uniqueItems": st.booleans(),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "required": st.lists(st.sampled_from("ab"), unique=True),
    "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b", "#", "#/properties/a", "http://127.0.0.1:1/x.json", "#b"]),
    "$id": st.sampled_from(["http://127.0.0.1:1/", "x", "http://["]),
    "$anchor": st.just("b"),
    "x-box": st.just("pixels"),
}


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("ab"), inner, min_size=1)
    one = dict.fromkeys(
        ("not", "if", "then", "else", "items", "contains", "propertyNames", "additionalProperties"), inner
    )
    one |= dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), inner)
    several = dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), lists)
    by_name = dict.fromkeys(("properties", "dependentSchemas", "$defs"), named)
    patterns = {"patternProperties": st.dictionaries(st.sampled_from(SLOW), inner, min_size=1, max_size=2)}
    return parts(one | several | by_name | patterns | KEYWORDS)


def parts(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(st.sampled_from(sorted(keywords)), max_size=4, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))


SCHEMAS = st.recursive(st.booleans() | parts(KEYWORDS), schemas, max_leaves=10)


@settings(max_examples=examples(300), suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from("ab"), SCHEMAS, min_size=1), SCHEMAS, SCHEMAS, VALUES, st.text())
def test_whatever_is_accepted_no_answer_raises_or_hangs(
    properties: dict[str, Any], a: Any, b: Any, value: Any, text: str
) -> None:
    try:
        schema = of(properties=properties, **{"$defs": {"a": a, "b": b}})
    except SchemaError as error:
        refused = str(error)
        schema = None
    if schema is None:
        assert "\n" not in refused
        return
    for answer in (json.dumps(value), json.dumps(dict.fromkeys(properties, value)), text):
        checked(schema, answer)


@pytest.mark.usefixtures("prefect_server")
def test_a_run_and_its_rerun_end_where_they_hung(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept answer is checked again by the second run."""
    (tmp_path / "slow.json").write_text(
        json.dumps({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["a"]})
    )
    monkeypatch.setattr("tasks.simulator.messages.fill", lambda *_: {"a": "a" * 35 + "!"})
    images = draw(tmp_path / "images", 1)
    job = Job(endpoint=simulator.url, answer_schema=str(tmp_path / "slow.json"))
    for _ in range(2):
        summary = analyze_images(str(images), str(tmp_path / "out"), job)
        assert summary["statuses"] == {"invalid": 1}
        assert summary["ok"] == 0


@pytest.mark.parametrize("pattern", SLOW)
def test_the_engine_is_the_one_that_does_not_backtrack(pattern: str) -> None:
    assert compiled(pattern).size <= 10_000
