"""Requests and tokens a minute: token buckets, refilled continuously, and the headers that tell of them.

Source: https://platform.claude.com/docs/en/api/rate-limits
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import ceil

from tasks.simulator.api_errors import ApiError
from tasks.simulator.faults import Settings


class TokenBucket:
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
        self._buckets = {name: TokenBucket(n, settings.burst_s, clock) for name, n in limits.items() if n is not None}

    def take_request(self) -> None:
        """Count a request, refused ones too; a 429 when there were too many in the last minute."""
        self._take("requests", 1)

    def take_input(self, tokens: int) -> None:
        """Count a prompt's tokens, those read from the cache left out; a 429 when there were too many."""
        self._take("input-tokens", tokens)
        self._refuse_unless("output-tokens", 1)

    def take_output(self, tokens: int) -> None:
        """Count an answer's tokens; only the next request can be refused for them."""
        if "output-tokens" in self._buckets:
            self._buckets["output-tokens"].take(tokens)

    def headers(self) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers of every limit there is."""
        headers: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            remaining = max(0, int(bucket.remaining))
            full = datetime.now(UTC) + timedelta(seconds=bucket.wait(bucket.capacity))
            prefix = f"anthropic-ratelimit-{name}"
            headers[f"{prefix}-limit"] = str(bucket.per_minute)
            # The API rounds what is left of tokens to thousands.
            headers[f"{prefix}-remaining"] = str(remaining if name == "requests" else round(remaining, -3))
            headers[f"{prefix}-reset"] = full.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def _take(self, name: str, units: int) -> None:
        if name in self._buckets:
            self._refuse_unless(name, units)
            self._buckets[name].take(units)

    def _refuse_unless(self, name: str, units: int) -> None:
        bucket = self._buckets.get(name)
        wait = bucket.wait(units) if bucket else 0.0
        if bucket and wait > 1e-9:
            unit = name.replace("-", " ")
            message = f"This request would exceed your rate limit of {bucket.per_minute:,} {unit} per minute."
            # Whole seconds, as the API sends them, and never less than needed.
            raise ApiError(429, "rate_limit_error", message, headers={"retry-after": str(ceil(wait))})
