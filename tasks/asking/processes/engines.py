"""Several engines that look like one. The bytes of a page decide which process asks, so that copies meet in one."""

import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue

from tasks.asking.calls import CallLedger
from tasks.asking.engine import one_first
from tasks.asking.halting import ENDED_EARLY, Halt, at_once
from tasks.asking.journal import journal_path
from tasks.asking.limits.budget import nearly_spent
from tasks.asking.limits.spend import SharedSpend
from tasks.asking.processes.wire import Ask, Broken, End, News, Opening, Place, Wire
from tasks.asking.records import AnswerStore, EngineSettings, Outcome, Page, Progress, unasked
from tasks.children import start_module
from tasks.errors import SchemaError, StopRun


class Child:
    """One process, and the pages that it has not told about yet."""

    def __init__(self, opening: Opening, heard: "Callable[[Child, News | None], None]") -> None:
        self._process, ours = start_module("tasks.asking.processes.child", os.environ, pass_fds=[opening.spend_fd])
        self.number = opening.number
        self.in_flight = 0
        self.closed = self.gone = False
        self.pending: dict[int, tuple[Page, Future[Outcome]]] = {}
        self._wire = Wire(ours)
        self._heard = heard
        self._reader = threading.Thread(target=self._read, name=f"visionflow-process-{self.number}", daemon=True)
        self.tell(sys.path)
        self.tell(opening)
        self._reader.start()

    def tell(self, message: object) -> None:
        """Send a message; one that is gone is noticed by the reader."""
        with suppress(OSError):
            self._wire.send(message)

    def wait(self) -> None:
        """Until the process has ended and everything it said was heard."""
        self._reader.join()
        self._process.wait()
        self._wire.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    @property
    def status(self) -> int:
        """The exit status of a process that has closed its end."""
        return self._process.wait()

    def _read(self) -> None:
        try:
            with suppress(EOFError, OSError):
                while not self.closed:
                    news: News = self._wire.receive()
                    self.closed = news.last
                    self._heard(self, news)
        finally:  # whatever happened, nobody may wait for a page for ever
            if not self.closed:
                self._heard(self, None)


class Engines:
    """Asks as `Engine` does, by several processes whose calls in flight, rates and dollars add up to the job's."""

    def __init__(
        self, settings: EngineSettings, store: AnswerStore, ledger: CallLedger, place: Place, *, processes: int
    ) -> None:
        self.ledger = ledger
        self.progress = Progress()
        self.halt: Halt | None = None
        self._settings = settings
        self._store = store
        self._place = place
        self._spend = SharedSpend()
        self._processes = min(processes, settings.concurrency)
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._halts: SimpleQueue[Halt | None] = SimpleQueue()
        self._teller = threading.Thread(target=self._tell_halts, name="visionflow-halts", daemon=True)
        self._one_first = one_first(settings)
        self._alone = threading.Lock()

    def __enter__(self) -> "Engines":
        self._teller.start()
        self._children = [Child(self._opening(number), self._heard) for number in range(self._processes)]
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if any(child.pending for child in self._children):
            self.stop(ENDED_EARLY)
        self._halts.put(None)
        self._teller.join()
        for child in self._children:
            child.tell(End())
            if at_once(error):
                child.kill()  # its journal lists the calls in flight as perhaps paid
        for child in self._children:
            child.wait()
            self._let_go(child)

    @property
    def in_flight(self) -> int:
        """Calls under way, as last heard."""
        return sum(child.in_flight for child in self._children)

    @property
    def nearly_spent(self) -> bool:
        """Whether four fifths of the cap are used up."""
        return nearly_spent(self._spend.used, self._settings.max_cost)

    def ask(self, pages: list[Page], *, attempts: int) -> list[Outcome]:
        """Ask about every page and wait for all; each page gets its outcome, whatever happens."""
        outcomes = self._alone_at_first(pages, attempts)
        futures = [self._send(page, attempts) for page in pages[len(outcomes) :]]
        return outcomes + [future.result() for future in futures]

    def stop(self, halt: Halt) -> None:
        """Make no more calls; those in flight finish and are kept. The first reason given stands."""
        if self.halt is None:
            self.halt = halt
            self._halts.put(halt)  # a signal handler may be calling: it must not wait for a lock

    def recorded(self) -> None:
        """Every call is in the `calls` table: what was written down for a later run has served."""
        self.ledger.journal.forget()
        for child in self._children:
            if child.closed:
                journal_path(*self._place, self._settings.run_id, child.number).unlink(missing_ok=True)

    def _opening(self, number: int) -> Opening:
        own = share_of(self._settings, number, self._processes)
        return Opening(number, self._processes, own, self._store, self._place, self.ledger.preset, self._spend.fd)

    def _alone_at_first(self, pages: list[Page], attempts: int) -> list[Outcome]:
        """The outcomes of those pages that went alone, because nothing had been answered yet."""
        outcomes: list[Outcome] = []
        while self._one_first and len(outcomes) < len(pages):
            with self._alone:
                if self._one_first:
                    outcome = self._send(pages[len(outcomes)], attempts).result()
                    self._one_first = outcome.answer is None
                    outcomes.append(outcome)
        return outcomes

    def _send(self, page: Page, attempts: int) -> "Future[Outcome]":
        child = self._children[int(page.image.sha256[:8], 16) % self._processes]
        future: Future[Outcome] = Future()
        with self._lock:
            number = next(self._numbers)
            if self.halt is None and not child.gone:
                child.pending[number] = page, future
            else:
                future.set_result(self._unasked())
                return future
        child.tell(Ask(number, page, attempts))
        return future

    def _heard(self, child: Child, news: News | None) -> None:
        """Take in what a process says; None when it is gone."""
        if news is None:
            self._lost(child)
            return
        self.ledger.take_in(news.calls)
        child.in_flight = news.in_flight
        if news.halt:
            self.stop(news.halt)
        if news.told is None:
            return
        with self._lock:
            page, future = child.pending.pop(news.told.number)
        if isinstance(news.told, Broken):
            future.set_exception(RuntimeError(news.told.reason))
            return
        page.attempts, page.spent, outcome = news.told.attempts, news.told.spent, news.told.outcome
        if outcome.status != "unavailable":
            page.drop_bytes()
            self._count(outcome)
        future.set_result(outcome)

    def _count(self, outcome: Outcome) -> None:
        try:
            with self._lock:
                self.progress.add(outcome)
        except SchemaError as error:
            self.stop(Halt("stopped", str(error), error))

    def _lost(self, child: Child) -> None:
        """It ended without a word: what it had in flight may be paid, and stands in its journal for the next run."""
        reason = f"A process that makes calls ended without notice (exit status {child.status}, perhaps out of memory)."
        error = StopRun(f"{reason} What was answered is kept: run the same command again, or with fewer --workers.")
        self.stop(Halt("stopped", str(error), error))
        self._let_go(child)

    def _let_go(self, child: Child) -> None:
        """It will not be asked any more; whoever still waits for it is told."""
        with self._lock:
            child.gone = True
            left, child.pending = list(child.pending.values()), {}
        for _, future in left:
            future.set_result(self._unasked())

    def _unasked(self) -> Outcome:
        return unasked(self._settings.steps[0], self.halt)

    def _tell_halts(self) -> None:
        while (halt := self._halts.get()) is not None:
            for child in self._children:
                child.tell(halt)


def share_of(settings: EngineSettings, number: int, processes: int) -> EngineSettings:
    """What one of several processes may do: the shares of all add up to what the job says."""
    calls = settings.concurrency // processes + (number < settings.concurrency % processes)
    share = calls / settings.concurrency
    return replace(
        settings,
        concurrency=calls,
        per_second=settings.per_second * share if settings.per_second else None,
        share=share,
        one_first=False,  # the first call goes alone before any process has another
    )
