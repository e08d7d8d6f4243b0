"""The user's own schema as a validator: its work is bounded, it fetches nothing, and its patterns are ECMA-262.

jsonschema itself uses Python's `re`: another dialect, and one that backtracks, so that `^(a+)+$` and 35 characters of
an answer hold up a run for ever. The engine here is that of jsonschema-rs (Rust's regex crate behind a translation from
ECMA-262): it never backtracks, so it takes no look-around and no back-references, and a schema with one is refused.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from jsonschema import FormatChecker, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry

from tasks.errors import Signal
from tasks.schemas.arrow import parse_date, parse_date_time, parse_decimal

MOST_STEPS = 100_000  # of 5 to 10 microseconds; 3,000 rows of 5 fields with bounds of their own take 57,000
LONGEST_ANSWER = 1_000_000  # characters; the longest that a model writes today has about 400,000

HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", re.ASCII)
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
DURATION = re.compile(r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)", re.ASCII)


class TooMuch(Signal):
    """Checking the answer would take longer than an answer may."""


@dataclass
class _Purse:
    left: int


_purse: ContextVar[_Purse | None] = ContextVar("steps left", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """One answer's check: TooMuch is raised in it once MOST_STEPS are spent."""
    token = _purse.set(_Purse(MOST_STEPS))
    try:
        yield
    finally:
        _purse.reset(token)


def spend(steps: int) -> None:
    """Count steps of the check that is going on. Raises TooMuch when there were too many."""
    purse = _purse.get()
    if purse is not None:
        purse.left -= steps
        if purse.left < 0:
            raise TooMuch(f"checking it takes more than {MOST_STEPS:,} steps")


# The bytes of a compiled pattern bound its time for one character: about 0.5 ns a byte in the worst case seen, such as
# `1[01]{1000}x`. The smallest size that holds the pattern says what a character is to cost.
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
BYTES_A_STEP = 10_000
NO_SURROGATE = re.compile("[\ud800-\udfff]")
# Words of other dialects that the engine takes and ECMA-262 does not, or reads as something else.
FOREIGN = re.compile(r"(?<!\\)(?:\\\\)*(\\[A<>az]|\(\?[a-zA-Z-]+[:)]|\(\?P)")


@dataclass(frozen=True)
class Pattern:
    """A pattern ready to be matched; `size` in bytes is the bound of its compiled form."""

    matches: Callable[[str], bool]
    size: int

    def search(self, text: str) -> bool:
        """Whether the pattern is found anywhere in the text. Raises TooMuch when that would take too long."""
        spend(len(text) * self.size // BYTES_A_STEP)
        return self.matches(NO_SURROGATE.sub("\ufffd", text))


@lru_cache(maxsize=1000)
def compiled(pattern: str) -> Pattern:
    """Ready to be matched. Raises ValueError for what the engine does not take."""
    import jsonschema_rs  # a run without patterns starts without it

    if foreign := FOREIGN.search(pattern):
        raise ValueError(f"{foreign[1]!r} is no ECMA-262")
    for size in SIZES:
        options = jsonschema_rs.RegexOptions(size_limit=size, dfa_size_limit=2_000_000)
        try:
            matcher = jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
        except ValueError:  # too large, or none at all: which of the two is not said
            continue
        return Pattern(matcher.is_valid, size)
    raise ValueError("it is too large, no ECMA-262, or looks around or back, such as (?=x) or \\1")


def is_date(value: object) -> bool:
    """RFC 3339 full-date."""
    return not isinstance(value, str) or bool(parse_date(value))


def is_date_time(value: object) -> bool:
    """RFC 3339 date-time, with an offset."""
    return not isinstance(value, str) or bool(parse_date_time(value))


def is_decimal(value: object) -> bool:
    """A number as text that decimal128(38, 9) holds."""
    return not isinstance(value, str) or parse_decimal(value).is_finite()


def is_time(value: object) -> bool:
    """RFC 3339 full-time."""
    return not isinstance(value, str) or bool(TIME.fullmatch(value))


def is_duration(value: object) -> bool:
    """ISO 8601 duration, as RFC 3339 writes it."""
    return not isinstance(value, str) or bool(DURATION.fullmatch(value))


def is_hostname(value: object) -> bool:
    """RFC 1123 host name."""
    if not isinstance(value, str):
        return True
    return len(value) <= 253 and all(HOST_LABEL.fullmatch(label) for label in value.split("."))


def is_uri(value: object) -> bool:
    """RFC 3986 URI with a scheme."""
    if not isinstance(value, str):
        return True
    return bool(urlsplit(value).scheme) and value.isascii() and not re.search(r"[\s<>\"{}|\\^`]", value)


def is_regex(value: object) -> bool:
    """ECMA-262, as far as `patterns` takes it."""
    return not isinstance(value, str) or bool(compiled(value))


# jsonschema's own checks of the others need packages that are not installed, and pass everything without them.
CHECKER = FormatChecker(["email", "ipv4", "ipv6", "uuid"])
for name, check in {
    "date": is_date,
    "date-time": is_date_time,
    "decimal": is_decimal,
    "time": is_time,
    "duration": is_duration,
    "hostname": is_hostname,
    "uri": is_uri,
    "regex": is_regex,
}.items():
    CHECKER.checks(name, ValueError)(check)


Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def enforcer(validator_class: type[Validator], source: dict[str, Any]) -> Validator:
    """A validator of this schema, which has no `$schema`: jsonschema would go back to its own classes at one."""
    keywords: dict[str, Keyword] = {**validator_class.VALIDATORS, **OWN}
    bounded = extend(validator_class, {name: _counted(keyword) for name, keyword in keywords.items()})
    made: Validator = bounded(source, format_checker=CHECKER, registry=Registry())
    return made


def _counted(keyword: Keyword) -> Keyword:
    """The keyword, each use of it counted, and what it has to say as well."""

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        spend(1 + len(value) // 50 if isinstance(value, list | dict) else 1)
        for error in keyword(validator, value, instance, schema) or ():
            spend(len(error.message) // 100)  # it quotes the value: a large one many times over fills the memory
            yield error

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, _: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        for name, value in instance.items():
            if compiled(pattern).search(name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rest: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    others = [
        name for name in instance if name not in named and not any(compiled(one).search(name) for one in patterns)
    ]
    if isinstance(rest, dict):
        for name in others:
            yield from validator.descend(instance[name], rest, path=name)
    elif not rest and others:
        yield ValidationError(f"there must be no {', '.join(map(repr, others[:20]))}")


def _enum(_validator: Any, values: list[Any], instance: Any, _: Any) -> Iterator[ValidationError]:
    if isinstance(instance, list | dict):
        text = _canonical(instance)
        spend(2 * len(values) + len(text) // 50)
        known = any(_canonical(one) == text for one in values if type(one) is type(instance))
    else:
        known = any(one == instance and isinstance(one, bool) == isinstance(instance, bool) for one in values)
    if not known:
        yield ValidationError(f"{instance!r} is not one of {values!r}")


def _const(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return _enum(validator, [value], instance, schema)


def _unique_items(validator: Any, unique: bool, instance: Any, _: Any) -> Iterator[ValidationError]:
    """In time that grows with the array: jsonschema's own compares every two items of several types."""
    if not unique or not validator.is_type(instance, "array"):
        return
    seen: set[str] = set()
    for item in instance:
        text = _canonical(item)
        spend(1 + len(text) // 50)
        if text in seen:
            yield ValidationError(f"{item!r} stands in it twice")
            return
        seen.add(text)


def _multiple_of(validator: Any, step: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    """Exactly: 19.99 is a multiple of 0.01, which floats deny."""
    if not validator.is_type(instance, "number"):
        return
    number = Decimal(str(instance))
    if not number.is_finite() or Fraction(number) % Fraction(str(step)):
        yield ValidationError(f"{instance!r} is not a multiple of {step}")


def _canonical(value: Any) -> str:
    return json.dumps(_numbers(value), sort_keys=True)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


OWN: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "enum": _enum,
    "const": _const,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
}
