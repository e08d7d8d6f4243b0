"""What a run is named, and which of several processes of it this is."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Part:
    """A process of a fleet: the number of its shard, 0 for the parent, and how often that was started before."""

    number: int
    attempt: int

    @property
    def tag(self) -> str:
        """In the names of what it writes."""
        return f"{self.number:03}-{self.attempt}"


def new_run_id(ending: str | None = None) -> str:
    """A name that sorts by time and is unique."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{ending or secrets.token_hex(2)}"
