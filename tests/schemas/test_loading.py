"""Where a schema comes from: a file, labels, a Pydantic model; and what cannot be used."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.errors import SchemaError
from tasks.schemas import classification_schema, load_schema
from tests.api_rules import broken_rules
from tests.schemas import errors, fitted

MODELS = '''
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Literal
from pydantic import BaseModel, Field, RootModel, field_validator, model_validator

class Currency(str, Enum):
    MYR = "MYR"
    VND = "VND"

class Line(BaseModel):
    name: str = Field(min_length=1)
    price: Decimal = Field(ge=0)
    tags: dict[str, int] = {}

class Receipt(BaseModel):
    """A receipt."""
    company: str
    bought: date | None = None
    printed_at: datetime | None
    currency: Currency
    payment: Literal["cash", "card"] = "cash"
    lines: list[Line]
    total: Decimal
    size: tuple[float, float] | None = None

    @model_validator(mode="after")
    def adds_up(self):
        if sum(line.price for line in self.lines) != self.total:
            raise ValueError("the lines do not add up to the total")
        return self

class Tree(BaseModel):
    children: list["Tree"]

class Names(RootModel[list[str]]):
    pass

class Plain:
    pass
'''


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the folder the user starts from."""
    name = f"models_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_labels_given_on_the_command_line() -> None:
    of = classification_schema(["Cat", "dog", "other"])
    assert of.api["properties"]["label"]["enum"] == ["Cat", "dog", "other"]
    assert fitted(of, {"label": "cat"}) == {"label": "Cat"}
    assert "bird" in errors(of, {"label": "bird"})
    assert of.digest != classification_schema(["cat", "dog"]).digest
    for labels in (["one"], ["a", "A"], ["a", " "]):
        with pytest.raises(SchemaError, match="give two or more"):
            classification_schema(labels)


def test_a_pydantic_model(models: str) -> None:
    of = load_schema(f"{models}:Receipt")
    assert of.name == "Receipt"
    assert broken_rules(of.api) == []
    line = pa.struct(
        [("name", pa.string()), ("price", pa.decimal128(38, 9)), ("tags", pa.map_(pa.string(), pa.int64()))]
    )
    assert of.arrow.field("lines").type == pa.list_(line)
    assert of.arrow.field("printed_at").type == pa.timestamp("us", tz="UTC")
    answer = {
        "company": "KEDAI KOPI",
        "bought": "2018-12-25",
        "printed_at": None,
        "currency": "myr",
        "payment": None,
        "lines": [{"name": "kopi", "price": "4.50", "tags": [{"key": "hot", "value": 1}]}],
        "total": "4.50",
        "size": None,
    }
    value = fitted(of, answer)
    assert value["currency"] == "MYR"
    assert value["lines"] == [{"name": "kopi", "price": Decimal("4.50"), "tags": [("hot", 1)]}]
    assert "do not add up" in errors(of, {**answer, "total": "5"})
    assert "$.lines[0].name" in errors(of, {**answer, "lines": [{"name": "", "price": "1", "tags": []}]})


def test_a_root_model(models: str) -> None:
    assert fitted(load_schema(f"{models}:Names"), {"value": ["a"]}) == {"value": ["a"]}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nothing", r"no schema 'nothing'.*classification, document, invoice, objects, product, receipt"),
        ("nothing.json", "no schema file nothing.json"),
        ("no_such_module:Model", "Cannot import no_such_module:Model: ModuleNotFoundError"),
        ("{models}:Missing", "has no Missing"),
        ("{models}:Plain", "is no Pydantic model"),
        ("{models}:Tree", "refers to itself"),
    ],
)
def test_a_schema_that_cannot_be_found(models: str, spec: str, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        load_schema(spec.format(models=models))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{not json", "bad.json is no JSON"),
        ("[]", "a JSON Schema is an object"),
        ('{"type": "objekt"}', r"no valid JSON Schema at \$.type: 'objekt'"),
        ('{"type": "object"}', None),
        ('{"type": "object", "properties": {}, "additionalProperties": false}', "object without properties"),
        ('{"properties": {"a": {"$ref": "https://example.org/a.json"}}}', r"\$.properties.a: .*outside this schema"),
        ('{"properties": {"a": {"$ref": "#/$defs/a"}}}', "there is no #/\\$defs/a"),
        ('{"properties": {"a": {"$ref": "#"}}}', r"\$.properties.a: # refers to itself"),
        ('{"properties": {"a": {"type": "string", "pattern": "("}}}', r"\$.properties.a.pattern"),
        ('{"properties": {"a": {"enum": [["a"]]}}}', "only text, numbers, true, false and null in an enum"),
        ('{"properties": {"a": {"type": "null"}}}', "can only be null"),
        ('{"properties": {"a": false}}', "nothing fits"),
        ('{"properties": {"a": {"allOf": [{"type": "string"}, {"type": "integer"}]}}}', "Choose one"),
        ('{"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}', "field of their own"),
        ('{"properties": {"a": {"type": "string"}}, "required": ["b"]}', "'b' is required, but is no property"),
        ('{"properties": {"a": {"type": "string", "x-box": "pixels"}}}', "x-box marks no box"),
        ('{"properties": {"a": {"type": "array", "x-box": "percent"}}}', "no unit of boxes"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, source: str, reason: str | None) -> None:
    path = tmp_path / "bad.json"
    path.write_text(source)
    if reason is None:
        assert load_schema(str(path)).wrapped
        return
    with pytest.raises(SchemaError, match=reason) as caught:
        load_schema(str(path))
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)
