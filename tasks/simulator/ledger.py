"""Every request and its cost, exactly.

The cost is worked out here, from the price table but by other code than the client's, so that the two can be compared.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

from tasks.simulator.catalogue import Model
from tasks.simulator.metering import ApiUsage

BATCHED = 10_000_000  # numbers of rows of Message Batches begin here
TOKEN_CLASSES = tuple(name.name for name in fields(ApiUsage) if name.name != "geography")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to /v1/messages, or one row of a Message Batch, as the server knows it.

    `outcome` is `ok`, the name of a fault, or `refused`; `http_status` is 0 where no answer was sent.
    `delivered` is False where the connection was gone when the answer was ready. A row's `index` counts rows alone.
    """

    index: int
    time: float
    seconds: float
    request_id: str
    images: tuple[str, ...]
    model: str
    max_tokens: int
    outcome: str
    http_status: int
    billed: bool
    delivered: bool
    usage: ApiUsage
    cost_usd: Decimal
    batch: str | None = None

    @property
    def image(self) -> str | None:
        """SHA-256 of the first image."""
        return self.images[0] if self.images else None

    def body(self) -> dict[str, Any]:
        """As JSON: the cost is a string, so that no digit is lost."""
        return {**asdict(self), "images": list(self.images), "cost_usd": format(self.cost_usd, "f")}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the simulator was asked and billed since it started or was reset.

    `requests` counts requests to /v1/messages, `counted` those to count_tokens, `batches` Message Batches and
    `batch_requests` the requests in them (which `requests` does not), `billed` answers that cost something;
    `tokens` are the billed ones by class, `outcomes` counts finished requests. `entries` is empty where the settings
    switch them off; totals are exact anyway.
    """

    requests: int = 0
    billed: int = 0
    counted: int = 0
    batches: int = 0
    batch_requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    cost_usd: Decimal = Decimal(0)
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_CLASSES, 0))
    outcomes: dict[str, int] = field(default_factory=dict)
    first: float | None = None
    last: float | None = None
    entries: tuple[Entry, ...] = ()

    def body(self, *, entries: bool = True) -> dict[str, Any]:
        """As JSON."""
        totals = {name.name: getattr(self, name.name) for name in fields(self) if name.name != "entries"}
        totals["cost_usd"] = format(self.cost_usd, "f")
        return {**totals, "entries": [entry.body() for entry in self.entries]} if entries else totals


def cost(model: Model, usage: ApiUsage, *, batch: bool = False) -> Decimal:
    """What a call costs in USD, unrounded; half of that in a Message Batch."""
    price = next(price for price in model.prices if price.holds(usage.prompt))
    total = (
        usage.input * price.input
        + usage.output * price.output
        + usage.cache_write_5m * price.cache_write_5m
        + usage.cache_write_1h * price.cache_write_1h
        + usage.cache_read * price.cache_read
    )
    total = total * price.us if usage.geography == "us" and price.us is not None else total
    return total / 2 if batch else total


class Book:
    """Keeps the ledger; written by the server's loop, read from any thread."""

    def __init__(self, *, keep_entries: bool = True) -> None:
        self._keep_entries = keep_entries
        self._lock = threading.Lock()
        self._totals = Ledger()
        self._entries: list[Entry] = []
        self._requests = 0
        self._in_flight = 0
        self._peak = self._rows = 0

    @contextmanager
    def flight(self) -> Iterator[int]:
        """Count a request as in flight; gives its index, which counts from 0."""
        with self._lock:
            index = self._requests
            self._requests += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
        try:
            yield index
        finally:
            with self._lock:
                self._in_flight -= 1

    def write(self, entry: Entry) -> None:
        """Add a finished request."""
        with self._lock:
            totals = self._totals
            totals.outcomes[entry.outcome] = totals.outcomes.get(entry.outcome, 0) + 1
            if entry.billed:
                for name in TOKEN_CLASSES:
                    totals.tokens[name] += getattr(entry.usage, name)
            self._totals = replace(
                totals,
                billed=totals.billed + entry.billed,
                cost_usd=totals.cost_usd + entry.cost_usd,
                first=entry.time if totals.first is None else totals.first,
                last=max(totals.last or 0.0, entry.time + entry.seconds),
            )
            if self._keep_entries:
                self._entries.append(entry)

    def count(self) -> int:
        """Note a request to count_tokens, which is free; gives how many there were before."""
        with self._lock:
            counted = self._totals.counted
            self._totals = replace(self._totals, counted=counted + 1)
            return counted

    def batch(self, requests: int) -> int:
        """Note a Message Batch of so many requests; gives how many batches there were before."""
        with self._lock:
            totals = self._totals
            batches, rows = totals.batches + 1, totals.batch_requests + requests
            self._totals = replace(totals, batches=batches, batch_requests=rows)
            return totals.batches

    def batched(self) -> int:
        """A number for a row of a Message Batch; it begins where no request's number comes."""
        with self._lock:
            self._rows += 1
            return BATCHED + self._rows

    def read(self, *, entries: bool = True) -> Ledger:
        """The ledger as it is now."""
        with self._lock:
            return replace(
                self._totals,
                requests=self._requests,
                in_flight=self._in_flight,
                peak_in_flight=self._peak,
                tokens=dict(self._totals.tokens),
                outcomes=dict(self._totals.outcomes),
                entries=tuple(self._entries) if entries else (),
            )

    def clear(self) -> None:
        """Start again at zero; requests in flight are counted in the new ledger when they end."""
        with self._lock:
            self._totals = Ledger()
            self._entries.clear()
            self._requests = 0
            self._peak = self._in_flight


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
