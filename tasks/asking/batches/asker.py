"""Asking by Message Batch: the same question and the same answer as a call, for half the price and some patience.

`answer` is to a fallback chain what `Caller.answer` is. A request waits in the backlog until a batch is full; batches
submitted one after the other and waited for all at once; what comes back is kept as it is read, and then whoever asked
hears of it. What an earlier run submitted and did not collect is taken over as a run begins: whoever asks for one of
its answers waits for that batch instead of asking again, whatever the mode.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from time import monotonic
from typing import Any

from tasks.asking.answer import Answer
from tasks.asking.batches.choosing import Trial
from tasks.asking.batches.intents import Intent
from tasks.asking.batches.merging import Merging
from tasks.asking.batches.packing import End, Request, Waiting
from tasks.asking.batches.polling import Gone, Poller, Running
from tasks.asking.batches.submitting import Submitter, restore_bytes
from tasks.asking.batches.wire import MessageBatch
from tasks.asking.caller import Answered, Caller, CallFailed, paused, status_after
from tasks.asking.failures import Failure, Scope, explained
from tasks.asking.fallbacks import InBatch
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.keeping import Keeping
from tasks.asking.limits.budget import BudgetSpent, Reservation
from tasks.asking.pages import BatchRequest, BatchSettings, EngineSettings, Page
from tasks.asking.question import Step, answer_key
from tasks.errors import EndpointError, SchemaError, StopRun

LEARNT = timedelta(days=1)  # what batches of the last day took tells what the next one will
DEADLINE_POLL_S, LONGEST_DEADLINE_POLL_S = 2.0, 10.0  # at the deadline


class BatchAsker:
    """Answers from Message Batches for one run. Lives on one event loop."""

    def __init__(
        self, settings: EngineSettings, online: Caller, parts: tuple[Submitter, Poller, Merging, Keeping, Halting]
    ) -> None:
        assert settings.batches is not None
        self.submitted = self.collected = 0  # batches
        self.requests = 0
        self.history: list[dict[str, str]] = []
        self._settings = settings
        self._batch: BatchSettings = settings.batches
        self._online = online
        self._submitter, self._poller, self._merging, self._keeping, self._halting = parts
        self._trial = Trial(settings, online)
        self._deadline = self._submitter.deadline
        self._turns_online = asyncio.Semaphore(settings.concurrency)  # so many images are prepared again for calls
        self._running: dict[str, Running] = {}
        self._in: dict[tuple[str, int], Running] = {}  # what an earlier run asked
        self._unclaimed: dict[str, Decimal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        self._keeping_now: set[asyncio.Task[Any] | None] = set()
        self._cancelling = False

    async def begin(self) -> None:
        """Take over what earlier runs left: what has ended is collected now. Raises OutputError, EndpointError."""
        now = monotonic()
        for intent in await self._poller.open():
            if intent.endpoint != self._settings.endpoint.identity:
                continue
            running = Running(intent, ours=False, since=now)
            self._running[intent.word] = running
            self._in.update(dict.fromkeys(running.keys, running))
            self._online.budget.owe(running.worst_usd)
            running.batch = await self._poller.glance(intent)
            if running.batch is not None and running.batch.ended:
                await self._collect(running, running.batch)
            else:
                self._start(self._follow(running))
        if self._batch.mode == "auto":
            for batch in reversed(await self._poller.recent(LEARNT)):
                self._deadline.learn(batch.seconds)
            self._start(self._cancel_in_time())
        self._start(self._submitter.submit_for_ever(self._submitted))

    async def end(self) -> None:
        """Whatever still runs is left running; what is being read is kept first."""
        for task in self._tasks - self._keeping_now:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget_waiting()

    @property
    def left(self) -> list[Running]:
        """What runs at the endpoint, as far as this run knows."""
        return list(self._running.values())

    @property
    def in_flight(self) -> int:
        """Requests in batches that run."""
        return sum(running.requests for running in self.left)

    def charge(self, page: Page, key: str) -> None:
        """What an answer has cost this run for which nobody had waited when it was collected."""
        cost = self._unclaimed.pop(key, None)
        if cost is not None:
            page.spent += cost
            page.attempts += 1

    async def answer(self, page: Page, step: Step) -> Answered | Answer:
        """Wait for an answer, in as many batches as that takes; Halted, CallFailed, or InBatch."""
        if page.given_up is not None:
            raise CallFailed("unavailable", page.given_up)
        failures = 0
        while True:
            key = (answer_key(step.question, page.image.sha256), step.question.max_tokens)
            if key[0] in self._unclaimed and (kept := await self._keeping.kept(step.question, key[0])) is not None:
                self.charge(page, key[0])
                return kept
            if key in self._in:
                end = await self._in_an_earlier_batch(self._in[key], key)
                page.attempts += end is not None
            elif self._batch.mode == "online":
                return await self._online.answer(page, step)
            elif (tried := await self._tried(page, step)) is not None:
                return tried
            elif self._deadline.too_late:
                return await self._by_call(page, step)
            else:
                end = await self._in_a_batch(page, step)
            if isinstance(end, Answer):
                page.spent += self._cost(end)
                return end
            if end is not None:
                failures += not (self._cancelling and end.error_type == "canceled")  # by us, to ask online instead
                self._check(end, step, failures, page)

    async def _by_call(self, page: Page, step: Step) -> Answered:
        async with self._turns_online:
            if (failure := await restore_bytes(page)) is not None:
                raise CallFailed("unavailable", failure)
            return await self._online.answer(page, step)

    async def _cancel_in_time(self) -> None:
        """Once the deadline is near: what batches have answered by then is kept, the rest is asked about online."""
        while (seconds := self._deadline.until_cancelling(self.in_flight)) is not None:
            if seconds <= 0:
                self._cancelling = True
                for running in self.left:
                    await self._poller.cancel(running.intent)
            await self._halting.stay(min(max(seconds, DEADLINE_POLL_S), LONGEST_DEADLINE_POLL_S))

    async def _tried(self, page: Page, step: Step) -> Answered | None:
        try:
            return await self._trial.answer(page, step)
        except SchemaError as error:
            self._halting.halt(Halt.stopped(error))
            raise Halted from None

    def _check(self, failure: Failure, step: Step, failures: int, page: Page) -> None:
        """Halted where every request would fail so; CallFailed where this one is not tried again in this run."""
        if failure.scope is Scope.RUN:
            self._stop(explained(failure, step.question.model, self._settings.endpoint))
            raise Halted
        if (status := status_after(failure, failures, page)) is not None:
            raise CallFailed(status, failure)

    async def _in_an_earlier_batch(self, running: Running, key: tuple[str, int]) -> End:
        if self._batch.no_wait and running.intent.batch_id is not None:
            raise InBatch(_where(running))
        return await running.end(key)

    async def _in_a_batch(self, page: Page, step: Step) -> End:
        self._halting.check()
        worst = self._merging.pricer.worst_case(step.question, page.image)
        try:
            async with self._online.budget.reserved(worst) as reservation:
                try:
                    end = await self._submitter.backlog.add(Request(page, step, worst))
                except InBatch:
                    reservation.maybe_paid()
                    raise
                _settle(reservation, end)
                return end
        except BudgetSpent:
            self._halting.halt(Halt("paused", paused(self._online.budget, self._settings)))
            raise Halted from None

    def _submitted(self, intent: Intent, waiting: list[Waiting]) -> None:
        self.submitted += 1
        self.requests += len(waiting)
        running = Running.submitted(intent, waiting, monotonic())
        for one in waiting:
            one.request.page.attempts += 1
            one.request.page.attempts_at[one.request.step.number] += 1
            one.request.page.drop_bytes()
        self._running[intent.word] = running
        if self._batch.no_wait:
            running.leave(InBatch(_where(running)))
        else:
            self._start(self._follow(running))

    async def _follow(self, running: Running) -> None:
        """Wait for a batch to end, and collect it."""
        try:
            settled = await self._poller.settled(running.intent, self._batch.folder, dead_since=running.since)
            if settled is None:
                self._over(running, cost=Decimal(0))
                running.never()
                return
            running.intent = settled
            if self._batch.no_wait:
                running.batch = await self._poller.glance(settled)
                if running.batch is None or not running.batch.ended:
                    running.fail(InBatch(_where(running)))
                    return
            batch = await self._poller.ended(settled, lambda seen: setattr(running, "batch", seen))
            await self._collect(running, batch)
        except Gone:
            await self._collect(running, None)
        except Halted:
            running.fail(Halted())

    async def _collect(self, running: Running, batch: MessageBatch | None) -> None:
        """Keep all that a batch answered, and tell who waits. Without a batch nobody knows what it answered."""
        intent, path = running.intent, None
        async with self._one_at_a_time:
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
        self._over(running, cost=sum(map(self._cost, ends), Decimal(0)))
        self._deadline.learn(batch.seconds if batch is not None else None)
        self.history.append(running.row("collected"))
        for key, end in running.resolve(ends):
            self._unclaimed[key[0]] = self._unclaimed.get(key[0], Decimal(0)) + self._cost(end)

    async def _ended_requests(self, intent: Intent) -> Mapping[BatchRequest, str]:
        """The requests of another run's batch whose ends are in the tables already. Raises OutputError."""
        return await asyncio.to_thread(self._batch.ended_requests, intent.written_at, intent.run_id)

    def _cost(self, end: Answer | Failure) -> Decimal:
        """What this run paid for it."""
        if isinstance(end, Answer) and end.run_id == self._settings.run_id:
            return end.cost_usd
        return Decimal(0)

    def _over(self, running: Running, *, cost: Decimal) -> None:
        self._running.pop(running.intent.word, None)
        if not running.ours:
            for key in running.keys:
                self._in.pop(key, None)
            self._online.budget.settle(running.worst_usd, cost)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Any) -> None:
        """What goes wrong with batches stops the run; whoever waits hears that it has ended."""
        try:
            await work
        except Halted:
            self._forget_waiting()
        except StopRun as error:
            self._halting.halt(Halt.stopped(error))
            self._forget_waiting()
        except Exception as error:  # noqa: BLE001  # nobody foresaw it: nothing more is paid for
            self._stop(f"Batches failed in a way that nobody foresaw ({type(error).__name__}: {str(error)[:200]}).")
            self._forget_waiting()

    def _forget_waiting(self) -> None:
        for running in self.left:
            running.fail(Halted())

    def _stop(self, message: str) -> None:
        self._halting.halt(Halt.stopped(EndpointError(message)))


def _where(running: Running) -> str:
    return f"In a Message Batch ({running.name}): the same command, run later, collects its answer."


def _settle(reservation: Reservation, end: End) -> None:
    """What the cap has to count of a request."""
    if isinstance(end, Answer) and end.paid != "maybe":
        reservation.paid(end.cost_usd)
    elif end is not None and end.paid == "maybe":
        reservation.maybe_paid()
