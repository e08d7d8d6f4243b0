"""How much work checking one answer may be: counted in steps, so that the same answer fares alike on any machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

MOST_STEPS = 100_000  # of 5 to 10 microseconds; 3,000 rows of 5 fields with bounds of their own take 57,000
LONGEST_ANSWER = 1_000_000  # characters; the longest that a model writes today has about 400,000


class TooMuch(Exception):
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
