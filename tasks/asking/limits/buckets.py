"""Token buckets: staying just under the endpoint's limits a minute, as its `anthropic-ratelimit-*` headers tell them.

The API's limits are token buckets, refilled continuously (https://platform.claude.com/docs/en/api/rate-limits). Each
answer says how full they are, so that ours follow theirs: units are taken when a call leaves, and the next answer
corrects whatever the estimate got wrong. Without the headers nothing here holds a call back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from time import monotonic

# `tokens` is the sum that some endpoints limit instead of input and output.
CLASSES = ("requests", "input-tokens", "output-tokens", "tokens")
COUNTED_WHEN_ENDED = ("output-tokens", "tokens")
SPARE = 0.02  # of a limit stays unused, for calls of ours that the last header could not know of
BELIEVED = 0.1  # of what a header tells us to have more than we thought; all where calls in flight are counted
ROUNDING = 1000.0  # the API rounds what is left of tokens to thousands
LEAST, MOST = 1.0, 1e12  # units a minute: what is said beyond is no limit, and not believed
SPARE_OF_FULLEST = 0.2  # but no more than this of the most that was ever left, where bursts are small


@dataclass(frozen=True, slots=True)
class Load:
    """What one call is expected to use. Input is known well before; output only from the answers so far."""

    input_tokens: int
    output_tokens: float = 0.0

    def units(self, name: str) -> float:
        """Units of one class of limits."""
        return {
            "requests": 1.0,
            "input-tokens": float(self.input_tokens),
            "output-tokens": self.output_tokens,
            "tokens": self.input_tokens + self.output_tokens,
        }[name]


class TokenBucket:
    """One limit as last heard of, refilled since."""

    def __init__(self, clock: Callable[[], float], *, rounding: float, believed: float) -> None:
        self._clock = clock
        self._rounding = rounding
        self._believed = believed
        self._at = clock()
        self._level = 0.0
        self._limit = self._fullest = 0.0

    def observe(self, limit: float, left: float, due: float) -> None:
        """So many units a minute are allowed and so many are left, of which calls in flight will still take some.

        What is left is believed at once when it is less than we thought. When it is more, the answer may be older than
        the calls that left since, the more so on a busy machine: only a share of the difference is believed each time.
        """
        left = min(left, limit)
        known, told = self._limit == limit, max(left - due, -limit)  # a minute's worth of debt, at the most
        ours = self._now() if known else told
        self._limit, self._at = limit, self._clock()
        self._level = told if told < ours else ours + (told - ours) * self._believed
        self._fullest = max(self._fullest, left)

    def take(self, units: float) -> None:
        """A call leaves."""
        self._level = max(self._now() - units, -self._limit)

    def wait(self, units: float) -> float:
        """Seconds until so many units are there and the spare ones remain: some two minutes at the most."""
        spare = min(self._limit * SPARE + self._rounding, self._fullest * SPARE_OF_FULLEST)
        needed = min(min(units, self._fullest) + spare, self._limit)  # more is never there, whatever a call takes
        missing = needed - self._now()
        return max(missing, 0.0) / self._limit * 60

    def _now(self) -> float:
        now = self._clock()
        self._level = min(self._limit, self._level + (now - self._at) * self._limit / 60)
        self._at = now
        return self._level


class HeaderBuckets:
    """Every limit that the endpoint has told of, and what calls in flight will still use of it."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._output_due = 0.0  # output tokens of calls in flight, which the endpoint counts when they have ended

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of an answer, a 429's too."""
        for name in CLASSES:
            limit = _number(headers.get(f"anthropic-ratelimit-{name}-limit"))
            left = _number(headers.get(f"anthropic-ratelimit-{name}-remaining"))
            if limit is not None and left is not None and LEAST <= limit <= MOST:
                if name not in self._buckets:
                    self._buckets[name] = self._bucket(name)
                due = self._output_due if name in COUNTED_WHEN_ENDED else 0.0
                self._buckets[name].observe(limit, left, due)

    def _bucket(self, name: str) -> TokenBucket:
        rounding = 0.0 if name == "requests" else ROUNDING
        return TokenBucket(self._clock, rounding=rounding, believed=1.0 if name in COUNTED_WHEN_ENDED else BELIEVED)

    def wait(self, load: Load) -> float:
        """Seconds until a call of this load fits under every limit."""
        return max((bucket.wait(load.units(name)) for name, bucket in self._buckets.items()), default=0.0)

    def left(self, load: Load) -> None:
        """A call of this load leaves."""
        self._output_due += load.output_tokens
        for name, bucket in self._buckets.items():
            bucket.take(load.units(name))

    def ended(self, load: Load) -> None:
        """That call has ended: what it used is in the next header."""
        self._output_due -= load.output_tokens


def _number(text: str | None) -> float | None:
    """A number that may be one of units; None for any other."""
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) and number >= 0 else None
