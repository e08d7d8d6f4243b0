"""Following: the batches of one run, each from when it is submitted or taken over until its answers are kept.

Whoever waits is told then; nothing is held of a batch meanwhile but its name, for what it asks is in its intent.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from time import monotonic
from typing import Any

from tasks.asking.answer import Answer
from tasks.asking.batches.choosing import Deadline
from tasks.asking.batches.earlier import Earlier
from tasks.asking.batches.intents import Intent
from tasks.asking.batches.merging import Merging
from tasks.asking.batches.packing import Request
from tasks.asking.batches.polling import Gone, Poller, Running
from tasks.asking.batches.waiting import Waits
from tasks.asking.batches.wire import MessageBatch
from tasks.asking.failures import Failure
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.limits.budget import Budget
from tasks.asking.pages import BatchRequest, BatchSettings, End, EngineSettings, NoAnswer
from tasks.errors import EndpointError, StopRun


class Following:
    """The batches of one run. Lives on one event loop."""

    def __init__(
        self,
        settings: EngineSettings,
        budget: Budget,
        waits: Waits,
        deadline: Deadline,
        parts: tuple[Poller, Merging, Halting],
    ) -> None:
        assert settings.batches is not None
        self.submitted = self.collected = 0  # batches
        self.requests = 0
        self.history: list[dict[str, str]] = []
        self.earlier = Earlier()
        self._run_id = settings.run_id
        self._endpoint = settings.endpoint.identity
        self._batch: BatchSettings = settings.batches
        self._budget = budget
        self._waits = waits
        self._deadline = deadline
        self._poller, self._merging, self._halting = parts
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._keeping_now: set[asyncio.Task[Any] | None] = set()

    async def take_over(self) -> None:
        """Take over what earlier runs left: what has ended is collected now. Raises OutputError, EndpointError."""
        now = monotonic()
        async for intent in self._poller.each():
            if intent.endpoint != self._endpoint:
                continue
            running = Running(intent, ours=False, since=now)
            self._running[intent.word] = running
            self.earlier.add(running, (asked.key for asked in intent.asked))
            self._budget.owe(running.worst_usd)
        for running in self.left:
            running.batch = await self._poller.glance(running.intent)
            if running.batch is not None and running.batch.ended:
                await self._collect(running, running.batch)
            else:
                self.start(self._follow(running))

    async def end(self) -> None:
        """Whatever still runs is left running; what is being read is kept first."""
        for task in self._tasks - self._keeping_now:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._waits.end_all()

    @property
    def left(self) -> list[Running]:
        """What runs at the endpoint, as far as this run knows."""
        return list(self._running.values())

    @property
    def in_flight(self) -> int:
        """Requests in batches that run."""
        return sum(running.requests for running in self.left)

    def follow(self, intent: Intent, requests: list[Request]) -> None:
        """A batch that this run has submitted."""
        self.submitted += 1
        self.requests += len(requests)
        running = Running(intent, since=monotonic())
        for request in requests:
            request.page.attempts += 1
            request.page.attempts_at[request.step.number] += 1
            request.page.drop_bytes()
        self._running[intent.word] = running
        if self._batch.no_wait:
            self._leave(running, (asked.request_key for asked in intent.asked))
        else:
            self.start(self._follow(running))

    def _leave(self, running: Running, keys: Iterable[bytes]) -> None:
        """Nobody waits for these of its requests in this run."""
        end = NoAnswer(where_is(running))
        for key in keys:
            self._waits.end(key, end)
        running.intent = replace(running.intent, asked=())

    async def _follow(self, running: Running) -> None:
        """Wait for a batch to end, and collect it."""
        try:
            settled = await self._poller.settled(running.intent, self._batch.folder, dead_since=running.since)
            if settled is None:
                self._over(running, dict.fromkeys((asked.request_key for asked in running.intent.asked), NoAnswer()))
                return
            running.settle(settled)
            if self._batch.no_wait:
                running.batch = await self._poller.glance(settled)
                if running.batch is None or not running.batch.ended:
                    self._leave(running, running.joined)
                    return
            batch = await self._poller.ended(running.intent, lambda seen: setattr(running, "batch", seen))
            await self._collect(running, batch)
        except Gone:
            await self._collect(running, None)

    async def _collect(self, running: Running, batch: MessageBatch | None) -> None:
        """Keep all that a batch answered, and tell who waits. Without a batch nobody knows what it answered."""
        path = None
        async with self._one_at_a_time:
            intent = await self._poller.whole(running.intent)
            if batch is not None:
                with suppress(Gone):
                    path = await self._poller.collect(intent, batch, self._batch.folder)
            self._keeping_now.add(asyncio.current_task())
            try:
                ended = {} if running.ours else await self._ended_requests(intent)
                ends = await self._merging.merge(intent, batch, path, ended)
                await self._poller.done(intent)
            finally:
                self._keeping_now.discard(asyncio.current_task())
                if path is not None:
                    path.unlink(missing_ok=True)
        self.collected += not running.ours
        self.requests += 0 if running.ours else running.requests
        self._deadline.learn(batch.seconds if batch is not None else None)
        self.history.append(running.row("collected"))
        keys = (asked.request_key for asked in intent.asked)
        self._over(running, dict(zip(keys, ends, strict=True)))
        for asked, end in () if running.ours else zip(intent.asked, ends, strict=True):
            if not isinstance(end, Answer):  # nothing of it is to be charged to whoever asks again
                self.earlier.claim(asked.key, running)

    async def _ended_requests(self, intent: Intent) -> Mapping[BatchRequest, str]:
        """The requests of another run's batch whose ends are in the tables already. Raises OutputError."""
        return await asyncio.to_thread(self._batch.ended_requests, intent.written_at, intent.run_id)

    def cost(self, end: End) -> Decimal:
        """What this run paid for it."""
        if isinstance(end, Answer) and end.run_id == self._run_id:
            return end.cost_usd
        return Decimal(0)

    def _over(self, running: Running, ends: Mapping[bytes, End]) -> None:
        """Tell who waits for it; what an earlier run asked is found where it is kept, and charged then."""
        running.over = True
        self._running.pop(running.intent.word, None)
        for key, end in ends.items():
            if running.ours or not isinstance(end, Answer):
                self._waits.end(key, end)
        for key in running.joined:
            if not isinstance(ends.get(key), Failure):
                self._waits.end(key, NoAnswer())
        if not running.ours:
            self._budget.settle(running.worst_usd, sum(map(self.cost, ends.values()), Decimal(0)))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something about batches until the run ends."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Any) -> None:
        """What goes wrong with batches stops the run; whoever waits hears that it has ended."""
        try:
            await work
            return
        except Halted:
            pass
        except StopRun as error:
            self._halting.halt(Halt.stopped(error))
        except Exception as error:  # noqa: BLE001  # nobody foresaw it: nothing more is paid for
            message = f"Batches failed in a way that nobody foresaw ({type(error).__name__}: {str(error)[:200]})."
            self._halting.halt(Halt.stopped(EndpointError(message)))
        self._waits.end_all()


def where_is(running: Running) -> str:
    """What the row of an image says that is in it."""
    return f"In a Message Batch ({running.name}): the same command, run later, collects its answer."
