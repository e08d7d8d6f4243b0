"""Polling: what became of a batch, whoever submitted it: found again where its reply was lost, watched, downloaded.

An intent without an id may be a batch all the same: `settled` finds out before anything is asked again. A batch of as
many requests that was created since may be it. That shows in its results, which are readable once it has ended, so one
that still runs is waited for. Where no such batch is listed for a minute there never was one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import TypeVar

from tasks.asking.batches.intents import Intent, IntentLog
from tasks.asking.batches.merging import are_of, lines_in
from tasks.asking.batches.wire import MessageBatch, Wire
from tasks.asking.failures import Scope, classify
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError, EndpointError, OutputError, Signal

T = TypeVar("T")

POLL_S, SLOWEST_POLL_S, SLOWER = 2.0, 60.0, 1.3
# https://github.com/anthropics/anthropic-sdk-python/issues/1432: a new batch may not be found for minutes
LATE_S = 900.0
ABSENT_S = 60.0
LONGEST_S = 26 * 3600.0  # a batch expires after 24 hours, and is given two more to end
DOWNLOADS = 3  # of results in which requests are missing
CLOCKS = timedelta(hours=1)  # by which ours and the endpoint's may differ
CREATED_WITHIN = CLOCKS + timedelta(hours=1)  # after its intent was written: a body takes minutes to send


class Gone(Signal):
    """A batch's results are there no more: deleted, or older than 29 days."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    poll: float = POLL_S
    slowest_poll: float = SLOWEST_POLL_S
    late: float = LATE_S
    absent: float = ABSENT_S
    longest: float = LONGEST_S


class Poller:
    """Asks what becomes of one job's batches. Lives on one event loop; `sleep` may raise to end a wait."""

    def __init__(
        self, wire: Wire, log: IntentLog, secrets: Secrets, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.patience = Patience()
        self._wire = wire
        self._log = log
        self._secrets = secrets
        self._sleep = sleep

    async def each(self) -> AsyncIterator[Intent]:
        """What was, or may have been, submitted and is not collected yet, one at a time. Raises OutputError."""
        intents = self._log.each()
        while (intent := await asyncio.to_thread(next, intents, None)) is not None:
            yield intent

    async def whole(self, intent: Intent) -> Intent:
        """The intent with all that was asked. Raises OutputError."""
        return await asyncio.to_thread(self._log.whole, intent)

    async def settled(self, intent: Intent, folder: Path, *, dead_since: float | None = None) -> Intent | None:
        """The intent with its batch, or None where there never was one. Waits until that is known.

        `dead_since` is when whoever submitted it was seen dead (`monotonic`), or heard no reply; now if not given.
        Raises EndpointError where it cannot be told, Gone where it may be a batch whose results are there no more.
        """
        if intent.batch_id is not None:
            return intent
        refused: set[str] = set()
        deadline = (monotonic() if dead_since is None else dead_since) + self.patience.absent
        while True:
            named = await asyncio.to_thread(lambda: {other.batch_id for other in self._log.each()}) | refused
            since = await self._asked_again(lambda: self._wire.since(intent.written_at - CLOCKS))
            candidates = [batch for batch in since if batch.requests == len(intent.asked) and batch.id not in named]
            for batch in candidates:
                if batch.ended:
                    if await self._is_of(batch, intent, folder):
                        return await self.named(intent, batch.id)
                    refused.add(batch.id)
            if not any(not batch.ended for batch in candidates) and monotonic() >= deadline:
                await asyncio.to_thread(self._log.done, intent)
                return None
            await self._sleep(min(self.patience.poll, max(deadline - monotonic(), 0.05)))

    async def named(self, intent: Intent, batch_id: str) -> Intent:
        """The intent, with its batch durable. Raises OutputError."""
        return await asyncio.to_thread(self._log.named, intent, batch_id)

    async def glance(self, intent: Intent) -> MessageBatch | None:
        """How a batch is now, asked once; None where that is not told."""
        try:
            return await self._wire.retrieve(intent.batch_id) if intent.batch_id else None
        except Exception:  # noqa: BLE001  # whoever waits for it asks again, and says what is wrong
            return None

    async def recent(self, since: timedelta) -> list[MessageBatch]:
        """Batches of this key, whoever submitted them, newest first; none where the endpoint does not tell."""
        try:
            return await self._wire.since(datetime.now(UTC) - since)
        except Exception:  # noqa: BLE001  # nothing hangs on it
            return []

    async def cancel(self, intent: Intent) -> None:
        """Let no more of it be answered; no error if the endpoint does not take that."""
        with suppress(Exception):
            await self._wire.cancel(intent.batch_id or "")

    async def ended(self, intent: Intent, seen: Callable[[MessageBatch], object] = lambda _: None) -> MessageBatch:
        """Wait for the end of a batch; `seen` is told each time it was looked at. EndpointError if it is lost."""
        assert intent.batch_id is not None
        batch_id, wait, began = intent.batch_id, self.patience.poll, monotonic()
        while True:
            batch = await self._asked_again(lambda: self._wire.retrieve(batch_id), late=self._late(intent))
            seen(batch)
            if batch.ended:
                return batch
            if monotonic() - began > self.patience.longest:
                raise EndpointError(
                    f"The batch {batch_id} has not ended in {self.patience.longest / 3600:.0f} hours, "
                    "where one expires after 24. It may still be billed. The same command looks again; "
                    f"to have its images asked again, and perhaps paid twice, remove {self._log.place(intent)}."
                )
            await self._sleep(wait)
            wait = min(wait * SLOWER, self.patience.slowest_poll)

    async def collect(self, intent: Intent, batch: MessageBatch, folder: Path) -> Path:
        """The results in a private file below the folder. Gone where there are none any more."""
        path = folder / f"{intent.word}.jsonl"
        if batch.archived:
            raise Gone
        for _ in range(DOWNLOADS):  # a connection that ends early is not always told from the end
            await self._download(intent, batch, path)
            if await asyncio.to_thread(lines_in, path) >= len(intent.asked):
                break
        return path

    async def _download(self, intent: Intent, batch: MessageBatch, path: Path) -> None:
        from tasks.asking.http import answer_bytes

        most = sum(answer_bytes(asked.max_tokens) for asked in intent.asked)
        await self._asked_again(lambda: self._wire.results(batch.id, path, most), late=self._late(intent))

    async def done(self, intent: Intent) -> None:
        """All of it is kept. Raises OutputError."""
        await asyncio.to_thread(self._log.done, intent)

    def _late(self, intent: Intent) -> float:
        """For how many seconds from now a 404 may still pass."""
        age = (datetime.now(UTC) - intent.written_at).total_seconds()
        return self.patience.late - max(age, 0.0)

    async def _is_of(self, batch: MessageBatch, intent: Intent, folder: Path) -> bool:
        """Whether an ended batch is the one that was meant: its ids begin with the intent's word."""
        if batch.archived:
            if batch.created_at - intent.written_at > CREATED_WITHIN:
                return False  # too late to be it
            raise Gone
        path = folder / f"{intent.word}.{batch.id}.jsonl"
        try:
            await self._download(intent, batch, path)
            ours = are_of(path, intent.word)
            if ours is None:
                raise EndpointError(
                    f"The results of the batch {batch.id} do not say whose they are. It may be the one that is written "
                    f"down in {self._log.place(intent)}: remove that file to have its images asked again, and paid."
                )
            return ours
        finally:
            path.unlink(missing_ok=True)

    async def _asked_again(self, ask: Callable[[], Awaitable[T]], *, late: float = 0.0) -> T:
        """What is free and changes nothing, asked until it is answered; EndpointError where it is refused for good."""
        began, wait = monotonic(), self.patience.poll
        while True:
            try:
                return await ask()
            except OutputError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, it is either passing or told in one line
                failure = classify(error, self._secrets)
                passing = failure.scope in (Scope.MOMENT, Scope.THROTTLE) or isinstance(error, AnswerError)
                patience = late if failure.status == 404 else self.patience.late if passing else 0.0
                if monotonic() - began >= patience:
                    raise EndpointError(
                        f"The endpoint does not tell what became of a batch ({failure.message}). It may still run and "
                        "be billed; the same command, with the key it was submitted with, goes on where this one "
                        f"stopped. What was submitted is written down in {self._log.uri}: where a batch was deleted, "
                        "remove the file that names it, and its images are asked again."
                    ) from None
                await self._sleep(failure.retry_after or wait)
                wait = min(wait * SLOWER, self.patience.slowest_poll)


@dataclass(eq=False)
class Running:
    """One batch, submitted by this run or found by it."""

    intent: Intent
    ours: bool = True
    """Whether this run submitted it: then each of its requests has its worst case set aside by itself."""
    since: float = 0.0
    """When its reply was lost, or its process seen dead (`monotonic`), where it has no id yet."""
    batch: MessageBatch | None = None
    """As it was last seen."""
    over: bool = False
    """Whether it is collected, or there never was one."""
    joined: list[bytes] = field(default_factory=list)
    """Requests of this run that wait for it, where an earlier one has submitted it."""
    requests: int = field(init=False)
    worst_usd: Decimal = field(init=False)

    def __post_init__(self) -> None:
        self.requests, self.worst_usd = len(self.intent.asked), self.intent.worst_usd
        self.settle(self.intent)

    def settle(self, intent: Intent) -> None:
        """It is known which batch it became; what it asks is written down, and need not be in memory meanwhile."""
        self.intent = intent if intent.batch_id is None else replace(intent, asked=())

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
