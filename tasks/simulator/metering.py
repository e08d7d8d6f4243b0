"""How many tokens a request and its answer count, what the prompt cache makes of them, and how many a minute allows.

Text is estimated (no tokenizer is public): a token for every four characters, 30 % more for models of the high tier.
Counts add up block by block, so count_tokens of the words plus the image's tokens is what a message is billed.
Limits are token buckets, refilled continuously: https://platform.claude.com/docs/en/api/rate-limits
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from tasks.billing.usage import image_tokens, seen_size
from tasks.simulator.catalogue import ApiError, Model
from tasks.simulator.content import Block
from tasks.simulator.faults import Settings
from tasks.simulator.rules import MessagesRequest

REQUEST_TOKENS = 8
SCHEMA_TOKENS = 60  # of the system text that the API injects with a schema
CHARACTERS = 4
LOOKBACK_BLOCKS = 20


@dataclass(frozen=True, slots=True)
class ApiUsage:
    """Tokens of one call by class, as they are billed; `output` includes `thinking`."""

    input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output: int = 0
    thinking: int = 0
    geography: str = "global"

    @property
    def prompt(self) -> int:
        """All tokens of the prompt, cached ones included."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read

    def body(self) -> dict[str, Any]:
        """`usage` of a message, as the SDK parses it."""
        return {
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_5m,
                "ephemeral_1h_input_tokens": self.cache_write_1h,
            },
            "output_tokens_details": {"thinking_tokens": self.thinking},
            "server_tool_use": None,
            "service_tier": "standard",
            "inference_geo": self.geography,
        }


def text_tokens(text: str, model: Model) -> int:
    """Tokens of a text, estimated from its length alone."""
    return -(-len(text) * model.vision.text_percent // (CHARACTERS * 100))


def text_within(text: str, tokens: int, model: Model) -> str:
    """The longest beginning of a text that is at most so many tokens."""
    return text[: max(tokens, 0) * CHARACTERS * 100 // model.vision.text_percent]


def prompt_tokens(question: MessagesRequest) -> int:
    """Tokens of the whole prompt, cached or not: what count_tokens answers."""
    blocks = [*question.fixed, *question.asked]
    return _overhead(question) + sum(block_tokens(block, question.model) for block in blocks)


def block_tokens(block: Block, model: Model) -> int:
    """Tokens of one block; an image counts as the model sees it, after the server's downscale."""
    if block.image is None:
        return text_tokens(block.text, model)
    vision = model.vision
    return image_tokens(
        *seen_size(block.image.width, block.image.height, max_edge=vision.max_edge, max_tokens=vision.max_tokens)
    )


def _overhead(question: MessagesRequest) -> int:
    if question.schema is None:
        return REQUEST_TOKENS
    return REQUEST_TOKENS + SCHEMA_TOKENS + text_tokens(json.dumps(question.schema), question.model)


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What one request reads from the prompt cache, and what it leaves there once its answer begins."""

    usage: ApiUsage
    entries: tuple[tuple[bytes, float], ...]


class PromptCache:
    """Prefixes that were sent before, each until it expires.

    An entry exists only once the first answer begins, so a burst of equal requests writes it many times, as at the API.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expires: dict[bytes, float] = {}

    def plan(self, question: MessagesRequest) -> CachePlan:
        """Split the prompt's tokens into read, written and plain ones; a lookup keeps the entry alive."""
        now = self._clock()
        total = prompt_tokens(question)
        breakpoints = self._breakpoints(question)
        read = 0
        entries: list[tuple[bytes, float]] = []
        for prefixes, _, seconds in breakpoints:
            entries.append((prefixes[-1][0], now + seconds))
            for key, prefix_tokens in prefixes[-LOOKBACK_BLOCKS:]:
                if self._expires.get(key, 0.0) > now:
                    read = max(read, prefix_tokens)
        written = {300: 0, 3600: 0}
        start = read
        for _, tokens, seconds in breakpoints:
            if tokens > start:
                written[seconds] += tokens - start
                start = tokens
        plain = total - read - sum(written.values())
        usage = ApiUsage(plain, written[300], written[3600], read, geography=question.geography)
        return CachePlan(usage, tuple(entries))

    def answer_begins(self, plan: CachePlan) -> None:
        """From now on the request's prefixes can be read; time to live counts from the request's start."""
        for key, expires in plan.entries:
            self._expires[key] = max(expires, self._expires.get(key, 0.0))

    def clear(self) -> None:
        """Forget every prefix."""
        self._expires.clear()

    @staticmethod
    def _breakpoints(question: MessagesRequest) -> list[tuple[list[tuple[bytes, int]], int, int]]:
        """For each breakpoint long enough to be cached: the prefixes up to it, its tokens, its time to live."""
        minimum = question.model.cache_min
        blocks = [*question.fixed, *question.asked]
        if minimum is None or not any(block.cache_s for block in blocks):
            return []
        # A new output format invalidates the cache, so it is part of every prefix.
        digest = hashlib.sha256(f"{question.model.id}\0{json.dumps(question.schema)}".encode())
        prefixes: list[tuple[bytes, int]] = []
        found: list[tuple[list[tuple[bytes, int]], int, int]] = []
        tokens = 0
        for block in blocks:
            digest.update(len(block.identity).to_bytes(8, "big") + block.identity)
            tokens += block_tokens(block, question.model)
            prefixes.append((digest.digest(), tokens))
            if block.cache_s is not None and tokens >= minimum:
                found.append((list(prefixes), tokens, block.cache_s))
        return found


class RateLimit:
    """So many units a minute, of which `burst_s` seconds' worth may be taken at once."""

    def __init__(self, per_minute: int, burst_s: float, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self.capacity = max(per_minute * burst_s / 60, 1.0)
        self._rate = per_minute / 60
        self._clock = clock
        self._level = self.capacity
        self._at = clock()

    @property
    def remaining(self) -> float:
        """Units that may be taken now; below zero after more was used than was there."""
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, units: float) -> None:
        """Use units, whether they are there or not."""
        self._level = self.remaining - units

    def wait(self, units: float) -> float:
        """Seconds until so many units are there."""
        return max(0.0, (min(units, self.capacity) - self.remaining) / self._rate)


class RateLimits:
    """The limits of the settings; a request is refused by the first that it passes."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        limits = {
            "requests": settings.requests_per_minute,
            "input-tokens": settings.input_tokens_per_minute,
            "output-tokens": settings.output_tokens_per_minute,
        }
        self._limits = {name: RateLimit(n, settings.burst_s, clock) for name, n in limits.items() if n is not None}

    def take_request(self) -> None:
        """Count a request, refused ones too; a 429 when there were too many in the last minute."""
        self._take("requests", 1)

    def take_input(self, tokens: int) -> None:
        """Count a prompt's tokens, those read from the cache left out; a 429 when there were too many."""
        self._take("input-tokens", tokens)
        self._refuse_unless("output-tokens", 1)

    def take_output(self, tokens: int) -> None:
        """Count an answer's tokens; only the next request can be refused for them."""
        if "output-tokens" in self._limits:
            self._limits["output-tokens"].take(tokens)

    def headers(self) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers of every limit there is."""
        headers: dict[str, str] = {}
        for name, limit in self._limits.items():
            remaining = max(0, int(limit.remaining))
            full = datetime.now(UTC) + timedelta(seconds=limit.wait(limit.capacity))
            prefix = f"anthropic-ratelimit-{name}"
            headers[f"{prefix}-limit"] = str(limit.per_minute)
            # The API rounds what is left of tokens to thousands.
            headers[f"{prefix}-remaining"] = str(remaining if name == "requests" else round(remaining, -3))
            headers[f"{prefix}-reset"] = full.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def _take(self, name: str, units: int) -> None:
        if name in self._limits:
            self._refuse_unless(name, units)
            self._limits[name].take(units)

    def _refuse_unless(self, name: str, units: int) -> None:
        limit = self._limits.get(name)
        wait = limit.wait(units) if limit else 0.0
        if limit and wait > 1e-9:
            unit = name.replace("-", " ")
            message = f"This request would exceed your rate limit of {limit.per_minute:,} {unit} per minute."
            # Whole seconds, as the API sends them, and never less than needed.
            raise ApiError(429, "rate_limit_error", message, headers={"retry-after": str(ceil(wait))})
