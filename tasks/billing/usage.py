"""Tokens that one answer was billed for, as the endpoint counts them, and only where its figures can be true."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

# Of one class in one call. A context window of today holds a million; what says more is no count of tokens.
MOST_TOKENS = 10_000_000
# Where an answer was made; only "us" costs a factor. Models older than the choice say that there was none.
KNOWN_GEOGRAPHIES = (None, "", "global", "not_available", "us")
# Sums that gateways add beside the classes they are made of.
TOKEN_SUMS = ("total_tokens", "prompt_tokens", "completion_tokens")
KNOWN = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "speed",
    "inference_geo",
)
KNOWN_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
LONGEST_WORD = 40


class Malformed(ValueError):
    """A value from outside that cannot be true; the message names it and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens one answer was billed for; `input` counts only what came after the last cached token, as the API does."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    thinking: int = 0
    geo: str | None = None
    unpriced: str = ""  # what no price table of ours covers, in words

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def cache_write(self) -> int:
        """Tokens written to the cache, for either lifetime."""
        return self.cache_write_5m + self.cache_write_1h

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Usage":
        """As it was kept; Malformed for what cannot be true."""
        values = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        for name, value in values.items():
            if name in ("geo", "unpriced"):
                if not isinstance(value, str) and (value is not None or name != "geo"):
                    raise Malformed(f"usage.{name} is {kind_of(value)}")
            else:
                _count(value, f"usage.{name}")
        return cls(**values)


def usage_of(usage: Any) -> Usage:
    """Usage from an answer's JSON; gateways may leave out everything but input and output tokens.

    What the API may charge for and this function does not know by name goes into `unpriced`. Malformed says what is
    wrong, without repeating it: a count is a whole number from 0 to ten million.
    """
    if not isinstance(usage, Mapping):
        raise Malformed(f"usage is {kind_of(usage)}")
    lifetimes = _group(usage, "cache_creation")
    one_hour = _optional(lifetimes, "ephemeral_1h_input_tokens", "usage.cache_creation")
    written = one_hour + _optional(lifetimes, "ephemeral_5m_input_tokens", "usage.cache_creation")
    written = max(written, _optional(usage, "cache_creation_input_tokens", "usage"))  # a gateway may fill in one only
    return Usage(
        input=_count(usage.get("input_tokens"), "usage.input_tokens"),
        output=_count(usage.get("output_tokens"), "usage.output_tokens"),
        cache_read=_optional(usage, "cache_read_input_tokens", "usage"),
        cache_write_5m=written - one_hour,
        cache_write_1h=one_hour,
        thinking=_optional(_group(usage, "output_tokens_details"), "thinking_tokens", "usage.output_tokens_details"),
        geo=_word(usage, "inference_geo"),
        unpriced=", ".join(_charges_unknown(usage, lifetimes)),
    )


def kind_of(value: Any) -> str:
    """What a JSON value is, in words that repeat nothing of it."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "negative" if value < 0 else "no whole number" if isinstance(value, float) else "too large"
    kinds: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "of another kind")


def _charges_unknown(usage: Mapping[str, Any], lifetimes: Mapping[str, Any]) -> list[str]:
    """Classes of tokens, tools, tiers, speeds and places that cost something else than the table says."""
    unknown = [*_tokens_beside(usage, KNOWN, "usage"), *_tokens_beside(lifetimes, KNOWN_LIFETIMES, "usage")]
    for name, value in _group(usage, "server_tool_use").items():
        if _count(value or 0, "usage.server_tool_use"):
            unknown.append(f"{name[:LONGEST_WORD]}={value}")
    words = {name: _word(usage, name) for name in ("service_tier", "speed")}
    unknown += [f"{name}={word}" for name, word in words.items() if word not in (None, "standard")]
    if (geo := _word(usage, "inference_geo")) not in KNOWN_GEOGRAPHIES:
        unknown.append(f"inference_geo={geo}")
    return unknown


def _tokens_beside(group: Mapping[str, Any], known: tuple[str, ...], path: str) -> list[str]:
    counts = {
        name: _count(value or 0, f"{path}.*_tokens")
        for name, value in group.items()
        if name.endswith("_tokens") and name not in known and name not in TOKEN_SUMS
    }
    return [f"{name[:LONGEST_WORD]}={count}" for name, count in counts.items() if count]


def _group(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = usage.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed(f"usage.{name} is {kind_of(value)}")
    return value


def _optional(group: Mapping[str, Any], name: str, path: str) -> int:
    value = group.get(name)
    return 0 if value is None else _count(value, f"{path}.{name}")


def _count(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return value
    raise Malformed(f"{path} is {kind_of(value)}")


def _word(usage: Mapping[str, Any], name: str) -> str | None:
    value = usage.get(name)
    if value is None or (isinstance(value, str) and len(value) <= LONGEST_WORD and value.isprintable()):
        return value
    raise Malformed(f"usage.{name} is {kind_of(value)}")


PATCH = 28


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image that the model sees at this size."""
    return ceil(width / PATCH) * ceil(height / PATCH)


def seen_size(width: int, height: int, *, max_edge: int, max_tokens: int) -> tuple[int, int]:
    """The size in pixels at which a model of this tier sees an image; never larger than the image."""

    def fits(w: int, h: int) -> bool:
        padded_edge = max(ceil(w / PATCH), ceil(h / PATCH)) * PATCH
        return padded_edge <= max_edge and image_tokens(w, h) <= max_tokens

    if fits(width, height):
        return width, height
    if height > width:
        seen_height, seen_width = seen_size(height, width, max_edge=max_edge, max_tokens=max_tokens)
        return seen_width, seen_height
    ratio = width / height
    low, high = 1, width
    while low + 1 < high:
        middle = (low + high) // 2
        if fits(middle, max(round(middle / ratio), 1)):
            low = middle
        else:
            high = middle
    return low, max(round(low / ratio), 1)
