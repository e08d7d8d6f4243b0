"""The engine: one event loop, one client, one limiter and one budget for all calls of a process.

Prefect's tasks are synchronous and wait in threads; every call runs here, so that calls in flight really are as many
as the job says, and so that one 429 slows all of them.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from tasks.asking.batches import Batches
from tasks.asking.caller import Caller
from tasks.asking.calls import CallLedger
from tasks.asking.claims import Claims
from tasks.asking.client import make_client
from tasks.asking.fallbacks import Asker, FallbackChain
from tasks.asking.halting import ENDED_EARLY, Halt, Halted, Halting, at_once
from tasks.asking.keeping import Keeping
from tasks.asking.limits import Grant, Limits
from tasks.asking.limits.budget import Budget
from tasks.asking.limits.limiter import Limiter
from tasks.asking.pages import AnswerStore, EngineSettings, Later, Outcome, Page, Progress, Wait, unasked
from tasks.asking.probe import Doubts
from tasks.errors import SchemaError

LEAVING_S = 10.0  # beyond the deadline of a call, until whatever keeps its answer counts as hanging

log = logging.getLogger("visionflow")
T = TypeVar("T")


class Engine:
    """Asks about pages until told to stop. Use as a context manager; `submit` may be called from many threads."""

    def __init__(
        self, settings: EngineSettings, store: AnswerStore, ledger: CallLedger, claims: Claims | None = None
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.progress, self.second_readings = Progress(), Progress()
        self.elsewhere = 0  # calls in flight of other processes of this run
        self._store = store
        self._claims = claims or Claims()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="visionflow-engine", daemon=True)
        self._asking: set[asyncio.Task[Any]] = set()
        self._ended = self._hurry = False
        self.batches: Batches | None = None
        self._submitting = threading.Lock()
        limiter = Limiter(
            settings.concurrency,
            per_second=settings.per_second,
            one_first=one_first(settings),
        )
        in_rounds = settings.batches is not None and settings.batches.mode != "online"
        self._limits = Limits(limiter, Budget(settings.max_cost, in_rounds=in_rounds))
        self._halting = Halting(self._limits.wake_all)

    def __enter__(self) -> "Engine":
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._submitting:
            self._ended = True
        try:
            # The loop itself may hang, as in a write to a disk that does.
            seconds = self.settings.timeout + 3 * LEAVING_S
            self._run(self._cut_off() if self._hurry or at_once(error) else self._drain(), seconds)
        except TimeoutError:
            log.warning("Storage hangs: calls whose answers it did not take are listed as perhaps paid.")
        self._chain.forget()
        self._say_what_runs_on()
        with suppress(TimeoutError):  # a batch that is being read is kept first, however large
            self._run(self._close(), None if self.batches else LEAVING_S)
        self._end_loop()
        self._claims.close()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LEAVING_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _open(self) -> None:
        settings = self.settings
        rooms = [(question.roomier() or question).max_tokens for question in settings.questions]
        self._client = make_client(
            settings.endpoint, concurrency=settings.concurrency, timeout=settings.timeout, max_tokens=max(rooms)
        )
        self._caller = Caller(settings, self._client, self._limits, self.ledger, self._halting)
        keeping = Keeping(settings, self._store, self._halting)
        asker: Asker = self._caller
        if settings.batches is not None:
            self.batches = Batches(settings, self.ledger, keeping, self._halting, self._caller)
            asker = await self.batches.open()
        self._chain = FallbackChain(settings, keeping, asker, self._halting, self._claims)
        self._doubts = Doubts(settings, self._client, self._caller)

    def _say_what_runs_on(self) -> None:
        """Batches that nobody waits for any longer: what they may cost is told with how the run ended."""
        if self.batches is None or not (line := self.batches.left_line):
            return
        if self._halting.reason is not None:
            self._halting.also(line)
        elif self.batches.settings.no_wait:
            self._loop.call_soon_threadsafe(self._halting.halt, Halt("waiting", line))

    async def _close(self) -> None:
        if self.batches is not None:
            await self.batches.close()
        await self._client.close()

    async def _drain(self) -> None:
        """Let calls in flight finish and be kept, for whoever asked still waits for them; a deadline bounds each."""
        if self._asking:
            self._halting.halt(ENDED_EARLY)
            _, late = await asyncio.wait(self._asking, timeout=self.settings.timeout + LEAVING_S)
            if late:
                await self._cut_off()

    async def _cut_off(self) -> None:
        """Wait for nothing: the journal lists the calls in flight as perhaps paid."""
        for asking in self._asking:
            asking.cancel()
        if self._asking:
            _, late = await asyncio.wait(self._asking, timeout=LEAVING_S)
            if late:
                raise TimeoutError

    @property
    def halt(self) -> Halt | None:
        """Why no more calls are made, if so."""
        return self._halting.reason

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._limits.limiter.in_flight + self.elsewhere

    @property
    def limits(self) -> Limits:
        """What calls wait for. Its figures may be read from any thread; it is changed through `regrant`."""
        return self._limits

    def regrant(self, grant: Grant) -> None:
        """Other limits from now on."""
        self._loop.call_soon_threadsafe(self._limits.regrant, grant)

    @property
    def waits(self) -> float:
        """Seconds for which the endpoint's limits or its `retry-after` hold the next call back."""
        return self._limits.limiter.waits

    @property
    def nearly_spent(self) -> bool:
        """Whether four fifths of the cap are used up."""
        return self._limits.budget.nearly_spent

    def submit(self, pages: list[Page], *, attempts: int) -> Future[list[Outcome]]:
        """Ask about every page; the outcome of each, whatever happens, once all have theirs.

        `attempts` calls may fail before a page counts as unavailable; being throttled is no failure.
        """
        with self._submitting:
            if not self._ended:
                return asyncio.run_coroutine_threadsafe(self._ask_all(pages, attempts), self._loop)
        too_late: Future[list[Outcome]] = Future()
        too_late.set_result([unasked(self.settings.steps[0], self.halt)] * len(pages))
        return too_late

    def recorded(self) -> None:
        """All is in the tables: what was written down for a later run has served, unless only it has an answer."""
        journal = self.ledger.journal
        if journal.needed or journal.trouble:
            journal.close()
        else:
            journal.forget()

    def expect(self, *, more: bool) -> None:
        """Whether more pages will soon be asked about, which a batch that is not full waits for."""
        if self.batches is not None:
            self.batches.expect(more=more)

    def stop(self, halt: Halt) -> None:
        """Make no more calls; those in flight finish and are kept. The first reason given stands."""
        self._loop.call_soon_threadsafe(self._halting.halt, halt)

    def hurry(self) -> None:
        """Whoever leaves now waits for nothing."""
        self._hurry = True

    def _run(self, coroutine: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """What it comes to; TimeoutError if that takes longer."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    async def _ask_all(self, pages: list[Page], attempts: int) -> list[Outcome]:
        for page in pages:
            page.max_failures = attempts
        asking = asyncio.current_task()
        assert asking is not None
        self._asking.add(asking)
        try:
            ends = await self._ends(pages)
            while later := [place for place, end in enumerate(ends) if isinstance(end, Wait)]:
                ready = [place for place in later if pages[place].may_go_on(ends[place])]
                if not ready:
                    assert self.batches is not None, "calls are waited for"
                    await self.batches.change()
                for place, end in zip(ready, await self._ends([pages[place] for place in ready]), strict=True):
                    ends[place] = end
        finally:
            self._asking.discard(asking)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return [end for end in ends if isinstance(end, Outcome)]

    async def _ends(self, pages: list[Page]) -> list[Any]:
        """Of all, even where one fails in a way that nobody foresaw: its calls are paid for."""
        return await asyncio.gather(*(self._ask(page) for page in pages), return_exceptions=True)

    async def _ask(self, page: Page) -> Outcome | Wait:
        """Ask, with fallbacks, and let go of the bytes when nothing more can be asked; a Wait for what takes long."""
        try:
            outcome = await self._chain.ask(page)
        except Later as later:
            later.wait.shared |= later.wait is not page.wait
            return later.wait
        if not outcome.may_be_asked_again:
            page.drop_bytes()
            self.progress.add(outcome)
            try:
                if self.progress.raises_doubt(outcome):
                    await self._doubts.look(outcome)
                if outcome.second is not None:
                    self.second_readings.add(outcome.second)
                    if self.second_readings.raises_doubt(outcome.second):
                        await self._doubts.look(outcome.second)
            except Halted:  # while it looked: the reason given stands
                pass
            except SchemaError as error:
                self._halting.halt(Halt.stopped(error))
        return outcome


def one_first(settings: EngineSettings) -> bool:
    """A cached system prompt is written by the first call; in a fan-out every call would write it."""
    return settings.one_first or (settings.endpoint.caching and settings.steps[0].question.cacheable)
