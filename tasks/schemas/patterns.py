"""The patterns of a schema, which are ECMA-262's, matched in time that grows with the text and no faster.

jsonschema itself uses Python's `re`: another dialect, and one that backtracks, so that `^(a+)+$` and 35 characters of
an answer hold up a run for ever. The engine here is that of jsonschema-rs (Rust's regex crate behind a translation from
ECMA-262): it never backtracks, so it takes no look-around and no back-references, and a schema with one is refused.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

from tasks.errors import Signal

MOST_STEPS = 100_000  # of 5 to 10 microseconds; 3,000 rows of 5 fields with bounds of their own take 57,000
LONGEST_ANSWER = 1_000_000  # characters; the longest that a model writes today has about 400,000


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
