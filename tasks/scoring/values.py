"""When two values are the same: dates, numbers and white space are normalised, and nothing else."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

# No leading zero, which a number of a document or a postcode may have, and no exponent.
NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*)(?:\.\d+)?|(?:0|[1-9]\d*),\d{1,2}|\.\d+)", re.ASCII)
CURRENCY = r"(?:[$€£¥₹₩₫฿]|[A-Z]{1,3}[$£]?)"
AMOUNT = re.compile(rf"{CURRENCY}?\s?(?P<number>{NUMBER.pattern})\s?{CURRENCY}?", re.ASCII)
YEAR_FIRST = re.compile(r"(\d{4})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?(\d{1,2})", re.ASCII)
YEAR_LAST = re.compile(r"(\d{1,2})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?(\d{4}|\d\d)", re.ASCII)
DAY_MONTH = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?[\s\-/.]*([A-Za-z]{3,9})[\s\-/.,]*(\d{4}|\d\d)", re.ASCII)
MONTH_DAY = re.compile(r"([A-Za-z]{3,9})[\s.]*(\d{1,2})(?:st|nd|rd|th)?[\s,]+(\d{4})", re.ASCII)
MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october"]
MONTHS += ["november", "december"]


def canonical(value: Any) -> Any:
    """The value as it is compared: None, a Decimal, or text; dates and times as ISO 8601, truth as `true` and `false`.

    Nothing and empty text are both None. Lists and objects become JSON.
    """
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case str():
            return _canonical_text(value)
        case datetime():
            return _moment(value)
        case date():
            return value.isoformat()
        case int() | Decimal():
            return Decimal(value).normalize()
        case float():
            return Decimal(repr(value)).normalize() if math.isfinite(value) else None
        case Mapping():
            return json.dumps({str(key): canonical(one) for key, one in value.items()}, sort_keys=True, default=str)
        case list() | tuple():
            return json.dumps([canonical(one) for one in value], default=str)
    return _canonical_text(str(value))


@lru_cache(65_536)
def _canonical_text(text: str) -> Any:
    text = collapsed(text)
    if not text:
        return None
    number = number_in(text)
    if number is not None:
        return number
    day = date_in(text)
    return day.isoformat() if day else text


def collapsed(text: str) -> str:
    """The text with all white space as single spaces."""
    return " ".join(text.split())


def number_in(text: str, *, amount: bool = False) -> Decimal | None:
    """The number that the whole text is, 1,234.50 and 12,50 among them; with `amount` also one with a currency."""
    if amount and (found := AMOUNT.fullmatch(text)):
        text = found["number"]
    if not NUMBER.fullmatch(text):
        return None
    grouped = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text)
    return Decimal(text.replace(",", "" if grouped else ".")).normalize()


def date_in(text: str, *, day_first: bool | None = None) -> date | None:
    """The date that the whole text is; None for another text, and for 3/4/2026 unless it is told what comes first."""
    try:
        if found := YEAR_FIRST.fullmatch(text):
            return date(*map(int, found.groups()))
        if found := DAY_MONTH.fullmatch(text):
            return date(_year(found[3]), _month(found[2]), int(found[1]))
        if found := MONTH_DAY.fullmatch(text):
            return date(_year(found[3]), _month(found[1]), int(found[2]))
        if found := YEAR_LAST.fullmatch(text):
            first, second, year = int(found[1]), int(found[2]), _year(found[3])
            order = told_day_first(text) if first != second else True
            order = day_first if order is None else order
            return None if order is None else date(year, *((second, first) if order else (first, second)))
    except ValueError:
        return None
    return None


def told_day_first(text: str) -> bool | None:
    """Whether a date in figures tells by itself that its day comes first; None where it does not tell."""
    found = YEAR_LAST.fullmatch(text)
    if not found or (int(found[1]) > 12) == (int(found[2]) > 12):
        return None
    return int(found[1]) > 12


def _year(text: str) -> int:
    return int(text) + (2000 if len(text) == 2 else 0)


def _month(word: str) -> int:
    """Raises ValueError for a word that is no month."""
    for number, name in enumerate(MONTHS, start=1):
        if name.startswith(word.lower()):
            return number
    raise ValueError(word)


def _moment(value: datetime) -> str:
    """A time in UTC; one at midnight that knows no time zone is a date, as which some programs keep dates."""
    if value.tzinfo is not None:
        return value.astimezone(UTC).isoformat()
    return value.date().isoformat() if value.time() == value.min.time() else value.isoformat()


def similarity(first: Any, second: Any) -> float:
    """How alike two canonical values are as texts: 1 less the share of letters to be edited (Levenshtein)."""
    if first == second:
        return 1.0
    if first is None or second is None:
        return 0.0
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(_written(first), _written(second)))


def _written(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
