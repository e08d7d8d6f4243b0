"""What tests of schemas share: a schema of some properties, what fits it, and what it says of what does not."""

import json
import time
from typing import Any

import pyarrow as pa

from tasks.schemas import AnswerSchema
from tasks.schemas.loading import build_schema


def schema(**properties: Any) -> AnswerSchema:
    return build_schema("test", {"type": "object", "properties": properties, "required": [*properties]}, label="test")


def fitted(of: AnswerSchema, answer: Any) -> Any:
    result = of.fit(answer if isinstance(answer, str) else json.dumps(answer))
    assert result.errors == []
    written = pa.array([result.value], type=of.arrow)
    assert len(written) == 1
    return result.value


def errors(of: AnswerSchema, answer: Any) -> str:
    result = of.fit(answer if isinstance(answer, str) else json.dumps(answer))
    assert result.value is None
    assert result.errors
    assert all("\n" not in error for error in result.errors)
    return "; ".join(result.errors)


GENEROUS_S = 10.0  # a bounded check takes about one here; an unbounded one takes minutes, days or all memory


def of(**keywords: Any) -> AnswerSchema:
    return build_schema("test", {"type": "object", **keywords}, label="test")


def field(**keywords: Any) -> AnswerSchema:
    return of(properties={"a": keywords}, required=["a"])


def checked(schema: AnswerSchema, text: str) -> Any:
    began = time.thread_time()
    fitted = schema.fit(text)
    assert time.thread_time() - began < GENEROUS_S
    assert (fitted.value is None) == bool(fitted.errors)
    assert all(len(error) <= 300 and "\n" not in error for error in fitted.errors)
    pa.array([fitted.value], type=schema.arrow)
    return fitted
