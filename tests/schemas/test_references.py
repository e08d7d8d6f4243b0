"""Every reference is resolved before the run, and none is fetched."""

import json
import socket
import threading
from typing import Any

import pytest

from tasks.errors import SchemaError
from tests.schemas import checked, field, of

ELSEWHERE = "outside this schema, and nothing is fetched. Copy it into $defs."


UNDER: list[dict[str, Any]] = [
    {"not": None},
    {"if": None},
    {"then": None, "if": True},
    {"else": None, "if": True},
    {"allOf": [{"not": None}]},
    {"dependentSchemas": {"a": None}},
    {"propertyNames": None},
    {"not": {"contains": None}},
    {"not": {"not": {"anyOf": [True, None]}}},
    {"$defs": {"unused": None}},
    {"$defs": {"unused": {"properties": {"b": None}}}},
    {"not": {"unevaluatedItems": None}},
]


def filled(place: Any, part: Any) -> Any:
    if isinstance(place, dict):
        return {key: filled(one, part) for key, one in place.items()}
    if isinstance(place, list):
        return [filled(one, part) for one in place]
    return part if place is None else place


class Listener:
    """Whatever connects to it is a request that must not have been made."""

    def __init__(self) -> None:
        self.heard = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/schema.json"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self._socket.accept()[0].close()
            self.heard += 1


@pytest.mark.parametrize("place", UNDER, ids=json.dumps)
def test_every_reference_is_resolved_before_the_run_and_none_is_fetched(place: dict[str, Any]) -> None:
    listener = Listener()
    cases = [
        ("#/$defs/nope", "there is no #/$defs/nope in this schema"),
        ("#nope", "there is no #nope in this schema"),
        (listener.url, ELSEWHERE),
        ("other.json", ELSEWHERE),
        ("file:///etc/passwd", ELSEWHERE),
        ("http://[", ELSEWHERE),
        ("#/properties/a/type", "leads to no schema"),
    ]
    for reference, said in cases:
        with pytest.raises(SchemaError) as caught:
            of(properties={"a": {"type": "string"}}, **filled(place, {"$ref": reference}))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert listener.heard == 0


@pytest.mark.parametrize("place", [place for place in UNDER if "$defs" not in place], ids=json.dumps)
@pytest.mark.parametrize("root", [{}, {"$id": "http://127.0.0.1:1/root.json"}])
def test_a_schema_that_contains_itself_is_refused_wherever_it_does(place: dict[str, Any], root: dict[str, Any]) -> None:
    for reference in ("#", "#/$defs/b"):
        definitions = {"b": {"not": {"$ref": "#/$defs/b"}}}
        with pytest.raises(SchemaError, match="refers to itself"):
            of(**root, properties={"a": True}, **{"$defs": definitions}, **filled(place, {"$ref": reference}))
    for word in ("$dynamicRef", "$recursiveRef"):
        with pytest.raises(SchemaError, match="refers to itself"):
            of(properties={"a": True}, **filled(place, {word: "#"}))


def test_an_id_that_turns_a_reference_elsewhere_is_refused() -> None:
    inner = {"$id": "http://x/y", "$defs": {"b": {"type": "integer"}}, "not": {"$ref": "#/$defs/b"}}
    with pytest.raises(SchemaError, match=r"an \$id gives #/\$defs/b another meaning|there is no #/\$defs/b"):
        of(properties={"a": True}, **{"$defs": {"b": {"type": "string"}}, "not": inner})


def test_a_part_of_another_draft_would_bring_back_the_slow_patterns() -> None:
    draft = "https://json-schema.org/draft/2020-12/schema"
    with pytest.raises(SchemaError, match="a part of another draft"):
        field(**{"not": {"$schema": draft, "pattern": "^(a+)+$"}})
    for first in (draft, "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"):
        schema = of(**{"$schema": first}, properties={"a": {"type": ["string", "null"], "pattern": "^(a+)+$"}})
        assert checked(schema, json.dumps({"a": "a" * 35 + "!"})).value is None
    listener = Listener()
    checked(of(**{"$schema": listener.url}, properties={"a": True}), "{}")
    assert listener.heard == 0
    nonsense: Any
    for nonsense in (5, [], {}, "http://[", "http://json-schema.org/draft-03/schema#"):
        with pytest.raises(SchemaError, match=r"\$schema"):
            of(**{"$schema": nonsense}, properties={"a": True})
