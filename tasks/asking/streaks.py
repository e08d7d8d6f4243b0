"""Failed calls in a row, over all images: what they say about the endpoint and the question."""

from dataclasses import dataclass
from time import monotonic

ALIKE_FAILURES = 10  # so many first ones, all failed the same way: the question, or the endpoint, is wrong


@dataclass(slots=True)
class FailureStreak:
    """Failed and throttled calls since the last answer."""

    calls: int = 0
    since: float = 0.0
    alike: int = 0  # the last so many failed in the same way
    _kind: str = ""
    _answered: bool = False

    def add(self, kind: str) -> None:
        """One more, of this kind."""
        if not self.calls:
            self.since = monotonic()
        self.calls += 1
        self.alike = self.alike + 1 if kind == self._kind else 1
        self._kind = kind

    def end(self) -> None:
        """There was an answer."""
        self.calls = self.alike = 0
        self._answered = True

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return monotonic() - self.since if self.calls else 0.0

    @property
    def all_alike(self) -> bool:
        """Whether there never was an answer, and the last calls all failed in the same way."""
        return not self._answered and self.alike >= ALIKE_FAILURES
