"""What the formats of JSON Schema mean, checked with nothing but the standard library."""

import re
from urllib.parse import urlsplit

from jsonschema import FormatChecker

from tasks.schemas.arrow import parse_date, parse_date_time, parse_decimal
from tasks.schemas.patterns import compiled

HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", re.ASCII)
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
DURATION = re.compile(r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)", re.ASCII)


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
