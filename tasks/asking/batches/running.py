"""A batch that runs at the endpoint, and who waits for which of its answers."""

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tasks.asking.answer import Answer
from tasks.asking.batches.intents import Intent
from tasks.asking.batches.pool import End, Waiting
from tasks.asking.batches.requests import Key
from tasks.asking.batches.wire import Batch
from tasks.asking.failures import Failure


@dataclass(eq=False)
class Running:
    """One batch, submitted by this run or found by it."""

    intent: Intent
    ours: bool = True
    """Whether this run submitted it: then each of its requests has its worst case set aside by itself."""
    since: float = 0.0
    """When its reply was lost, or its process seen dead (`monotonic`), where it has no id yet."""
    batch: Batch | None = None
    """As it was last seen."""
    _ends: "dict[Key, asyncio.Future[End]]" = field(default_factory=dict)

    @classmethod
    def submitted(cls, intent: Intent, waiting: list[Waiting], now: float) -> "Running":
        """As it is when it was submitted."""
        return cls(intent, since=now, _ends={one.request.key: one.end for one in waiting})

    requests: int = field(init=False)
    worst_usd: Decimal = field(init=False)

    def __post_init__(self) -> None:
        self.requests, self.worst_usd = len(self.intent.asked), self.intent.worst_usd

    def leave(self, error: Exception) -> None:
        """Nobody waits for it in this run: what it asks is written down, and need not be in memory."""
        self.fail(error)
        self.intent = replace(self.intent, asked=())

    @property
    def keys(self) -> list[Key]:
        """What is asked in it."""
        return [(asked.key, asked.max_tokens) for asked in self.intent.asked]

    @property
    def name(self) -> str:
        """For people."""
        return self.intent.batch_id or "a batch without a name yet"

    def row(self, state: str | None = None) -> dict[str, str]:
        """For people: its id, its requests, how it is, and until when it may take."""
        batch = self.batch
        expires = batch.expires_at if batch and batch.expires_at else None
        return {
            "batch": self.name,
            "requests": f"{self.requests:,}",
            "state": state or ("ended" if batch and batch.ended else "in progress"),
            "submitted": f"{self.intent.written_at:%Y-%m-%d %H:%M} UTC",
            "expires": f"{expires:%Y-%m-%d %H:%M} UTC" if expires else "",
            "may cost": f"${self.worst_usd:.4f}",
        }

    def end(self, key: Key) -> "asyncio.Future[End]":
        """The end of a request, once there is one."""
        return self._ends.setdefault(key, asyncio.get_running_loop().create_future())

    def resolve(self, ends: list[Answer | Failure]) -> dict[str, Decimal]:
        """Tell everybody; what the answers cost for which nobody waits, by key."""
        unclaimed: dict[str, Decimal] = {}
        for key, end in zip(self.keys, ends, strict=True):
            future = self._ends.pop(key, None)
            if future is not None and not future.done():
                future.set_result(end)
            elif isinstance(end, Answer):
                unclaimed[key[0]] = unclaimed.get(key[0], Decimal(0)) + end.cost_usd
        return unclaimed

    def never(self) -> None:
        """There never was such a batch: whoever waits asks again."""
        for future in self._ends.values():
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Nobody waits any longer."""
        for future in self._ends.values():
            if not future.done():
                future.set_exception(error)
        self._ends.clear()
