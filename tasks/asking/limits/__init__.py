"""What holds calls back: `limiter` (places and moments), `pacing` (the endpoint's headers), `rate` (what 429s teach),
`budget` (the cap on dollars).
"""

from dataclasses import dataclass

from tasks.asking.limits.budget import Budget
from tasks.asking.limits.limiter import Limiter


@dataclass(frozen=True, slots=True)
class Limits:
    """All that one engine's calls wait for."""

    limiter: Limiter
    budget: Budget

    def wake_all(self) -> None:
        """Let everybody who waits go on, for the run is ending."""
        self.limiter.wake_all()
        self.budget.wake_all()
