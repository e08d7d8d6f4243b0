"""The API's published rules for a schema, written down a second time, so that our translation is not its own judge.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from typing import Any

WORDS = {"title", "description"}
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
KEYWORDS = {
    "object": {"type", "properties", "required", "additionalProperties"},
    "array": {"type", "items", "minItems"},
    "string": {"type", "format", "enum"},
    "integer": {"type", "enum"},
    "number": {"type", "enum"},
    "boolean": {"type", "enum"},
    "null": {"type"},
}


def broken_rules(schema: dict[str, Any]) -> list[str]:
    """What the API would refuse in this schema, and where."""
    counts = {"optional": 0, "union": 0}
    broken = [] if schema.get("type") == "object" else ["the root is no object"]
    broken += _check(schema, "$", counts)
    if counts["optional"] > 24 or counts["union"] > 16:
        broken.append(f"too many: {counts}")
    return broken


def _check(schema: dict[str, Any], at: str, counts: dict[str, int]) -> list[str]:
    keys = schema.keys() - WORDS
    if "anyOf" in schema:
        counts["union"] += 1
        broken = [f"{at}: {keys}"] if keys != {"anyOf"} else []
        return broken + [line for n, one in enumerate(schema["anyOf"]) for line in _check(one, f"{at}|{n}", counts)]
    if keys == {"enum"}:
        return _check_enum(schema, at)
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in KEYWORDS:
        return [f"{at}: type {kind!r}"]
    broken = [f"{at}: {key}" for key in keys - KEYWORDS[kind]] + _check_enum(schema, at)
    if kind == "object":
        broken += _check_object(schema, at, counts)
    if kind == "array":
        broken += [f"{at}: minItems"] if schema.get("minItems", 0) not in (0, 1) else []
        broken += _check(schema["items"], f"{at}[]", counts)
    if schema.get("format", "date") not in FORMATS:
        broken.append(f"{at}: format")
    return broken


def _check_object(schema: dict[str, Any], at: str, counts: dict[str, int]) -> list[str]:
    counts["optional"] += len(schema["properties"].keys() - set(schema["required"]))
    broken = [] if schema.get("additionalProperties") is False and schema["properties"] else [f"{at}: open or empty"]
    return broken + [line for name, one in schema["properties"].items() for line in _check(one, f"{at}.{name}", counts)]


def _check_enum(schema: dict[str, Any], at: str) -> list[str]:
    return [f"{at}: enum"] if any(isinstance(value, dict | list) for value in schema.get("enum", ())) else []
