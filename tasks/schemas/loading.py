"""From what a user names to an AnswerSchema: a JSON Schema file, a Pydantic model, or a ready schema."""

import copyreg
import importlib
import json
import re
import sys
from collections.abc import Sequence
from functools import partial, reduce
from hashlib import sha256
from pathlib import Path
from typing import Any

from jsonschema import Draft3Validator, Draft202012Validator
from jsonschema import SchemaError as InvalidSchema
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from config.presets import READY, ready_schemas
from config.user_files import read_text
from tasks.errors import SchemaError
from tasks.schemas.answers import AnswerSchema
from tasks.schemas.arrow import arrow_type
from tasks.schemas.boxes import box_paths
from tasks.schemas.enforcing import enforcer
from tasks.schemas.references import check_nesting, check_parts
from tasks.schemas.translation import translate
from tasks.schemas.tree import Node, Property, read_tree

HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
LARGEST = 256_000  # characters of a schema's text


class ModelSchema(GenerateJsonSchema):
    """Pydantic's schema of a model, but for Decimal, which it shows as any number or text."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        """A decimal as text; its bounds are words for the model, and Pydantic enforces them."""
        bounds = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
        limits: dict[str, Any] = {**schema}
        told = {keyword: float(limits[name]) for keyword, name in bounds.items() if limits.get(name) is not None}
        return {"type": "string", "format": "decimal", **told}


def load_schema(spec: str) -> AnswerSchema:
    """The schema in a `.json` file, of `package.module:Model`, or ready under a name. Raises SchemaError."""
    if spec.endswith(".json"):
        return build_schema(Path(spec).stem, _read(Path(spec), spec), label=spec)
    if ":" in spec:
        model = _model(spec)
        try:
            source = model.model_json_schema(schema_generator=ModelSchema)
        except (PydanticUserError, ValueError) as error:
            raise SchemaError(f"{spec} has no JSON Schema: {_one_line(error)}. Use types that JSON knows.") from error
        return build_schema(model.__name__, source, label=spec, model=model)
    ready = ready_schemas()
    if spec not in ready:
        raise SchemaError(
            f"There is no schema {spec!r}. Name a .json file, package.module:Model, or one of {', '.join(ready)}."
        )
    return build_schema(spec, json.loads((READY / f"{spec}.json").read_text("utf-8")), label=spec)


def classification_schema(labels: Sequence[str]) -> AnswerSchema:
    """The ready schema `classification` with these labels and no others. Raises SchemaError."""
    distinct = {label.strip().casefold() for label in labels}
    if len(distinct) < max(len(labels), 2) or "" in distinct:
        raise SchemaError(f"Labels {', '.join(labels)!r}: give two or more, each once, upper and lower case alike.")
    source = json.loads((READY / "classification.json").read_text("utf-8"))
    source["properties"]["label"]["enum"] = [label.strip() for label in labels]
    return build_schema("classification", source, label="classification")


def build_schema(name: str, source: Any, *, label: str, model: type[BaseModel] | None = None) -> AnswerSchema:
    """All that follows from a JSON Schema; `label` names it in errors. Raises SchemaError."""
    if not isinstance(source, dict):
        raise SchemaError(f"{label}: a JSON Schema is an object, not {json.dumps(source)[:40]}.")
    try:
        check_nesting(source)
        validator_class = _draft(source)
        validator_class.check_schema(source, format_checker=None)  # patterns are looked at below
        enforced = {word: value for word, value in source.items() if word != "$schema"}
        check_parts(enforced, validator_class)
        tree = read_tree(enforced)
        wrapped = tree.kind != "object" or tree.nullable
        root = Node("object", True, {}, properties=(Property("value", tree, True),)) if wrapped else tree
        boxes = box_paths(root)
        translation = translate(root)
    except InvalidSchema as error:
        raise SchemaError(f"{label}: no valid JSON Schema at {error.json_path}: {_one_line(error)}.") from error
    except SchemaError as error:
        raise SchemaError(f"{label}: {error}") from None
    except RecursionError:
        raise SchemaError(f"{label}: too many schemas in one another. Make it flatter.") from None
    return AnswerSchema(
        name=name,
        source=source,
        api=translation.api,
        arrow=arrow_type(root),
        digest=sha256(_canonical(source)).hexdigest(),
        boxes=boxes,
        root=root,
        plan=translation.plan,
        validator=enforcer(validator_class, enforced),
        model=model,
        wrapped=wrapped,
    )


def rebuilt(name: str, source: Any, model: type[BaseModel] | None, *, evidence: bool) -> AnswerSchema:
    """A schema that was built before."""
    schema = build_schema(name, source, label=name, model=model)
    return schema.with_evidence() if evidence else schema


def _reduced(schema: AnswerSchema) -> tuple[Any, tuple[Any, ...]]:
    """For another process: what was derived from the schema is derived again."""
    return partial(rebuilt, evidence=schema.evidence), (schema.name, schema.source, schema.model)


copyreg.pickle(AnswerSchema, _reduced)  # here and not as its method: a schema need not know how it is built


def _read(path: Path, label: str) -> Any:
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise SchemaError(f"There is no schema file {label}. Check the path.") from None
    except OSError as error:
        raise SchemaError(f"Cannot read the schema {label}: {error.strerror}. Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{label} is no JSON: {_one_line(error)}. Correct the file.") from error


def _model(spec: str) -> type[BaseModel]:
    module_name, _, path = spec.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = reduce(getattr, path.split("."), importlib.import_module(module_name))
    except AttributeError:
        raise SchemaError(f"{module_name} has no {path}. Check the model's name.") from None
    except Exception as error:  # the user's module may raise anything while it is imported
        why = f"{type(error).__name__}: {_one_line(error)}"
        raise SchemaError(f"Cannot import {spec}: {why}. Check the module and the folder you start from.") from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise SchemaError(f"{spec} is no Pydantic model. Derive it from pydantic.BaseModel.")
    return found


def _draft(source: dict[str, Any]) -> type[Validator]:
    """The validator of the schema's draft. Raises SchemaError for a text too large to be one."""
    text = json.dumps(source, default=str, ensure_ascii=False)
    if len(text) > LARGEST:
        raise SchemaError(f"the schema has more than {LARGEST:,} characters. Make it smaller.")
    if HALF_A_CHARACTER.search(text):
        raise SchemaError("the schema holds half a surrogate pair, which is no text. Write the character whole.")
    draft = source.get("$schema", "")
    try:
        found: type[Validator] = validator_for({"$schema": draft}, default=Draft202012Validator)
    except (ValueError, TypeError, AttributeError):
        raise SchemaError(f"$.$schema: {str(draft)[:60]!r} is no draft of JSON Schema. Leave it out.") from None
    if found is Draft3Validator:
        raise SchemaError("$.$schema: draft 3 is too old. Write the schema as draft 2020-12.")
    return found


def _canonical(source: dict[str, Any]) -> bytes:
    return json.dumps(source, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _one_line(error: Exception) -> str:
    text = error.message if isinstance(error, InvalidSchema) else str(error)
    return " ".join(text.split()).rstrip(".")[:300]
