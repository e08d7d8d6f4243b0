"""Asking by Message Batch: the same question and the same answer as a call, for half the price and some patience.

`answer` is to a fallback chain what `Caller.answer` is. A request waits in the backlog until a batch is full; batches
submitted one after the other and waited for all at once; whoever asked comes again (`waiting`) when what came back is
kept. What an earlier run submitted and did not collect is taken over as a run begins: whoever asks for one of its
answers waits for that batch instead of asking again, whatever the mode.
"""

import asyncio
from datetime import timedelta
from decimal import Decimal

from tasks.asking.answer import Answer
from tasks.asking.batches.choosing import Trial
from tasks.asking.batches.following import Following, where_is
from tasks.asking.batches.packing import Request
from tasks.asking.batches.polling import Poller, Running
from tasks.asking.batches.submitting import Submitter, restore_bytes
from tasks.asking.batches.waiting import Waits
from tasks.asking.caller import Answered, Caller, CallFailed, paused, status_after
from tasks.asking.failures import Failure, Scope, explained
from tasks.asking.fallbacks import InBatch
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.keeping import Keeping
from tasks.asking.limits.budget import BudgetSpent
from tasks.asking.pages import BatchSettings, EngineSettings, Later, NoAnswer, Page, Wait
from tasks.asking.priced import Pricer
from tasks.asking.question import Question, Step, answer_key, request_key
from tasks.errors import EndpointError, SchemaError

LEARNT = timedelta(days=1)  # what batches of the last day took tells what the next one will
DEADLINE_POLL_S, LONGEST_DEADLINE_POLL_S = 2.0, 10.0  # at the deadline


class BatchAsker:
    """Answers from Message Batches for one run. Lives on one event loop."""

    def __init__(
        self,
        settings: EngineSettings,
        online: Caller,
        waits: Waits,
        following: Following,
        parts: tuple[Submitter, Poller, Pricer, Keeping, Halting],
    ) -> None:
        assert settings.batches is not None
        self._settings = settings
        self._batch: BatchSettings = settings.batches
        self._online = online
        self._waits = waits
        self._following = following
        self._submitter, self._poller, self._pricer, self._keeping, self._halting = parts
        self._trial = Trial(settings, online)
        self._deadline = self._submitter.deadline
        self._cancelling = False
        self._turns_online = asyncio.Semaphore(settings.concurrency)  # so many images are prepared again for calls

    async def begin(self) -> None:
        """What earlier runs left is taken over; then batches are submitted. Raises OutputError, EndpointError."""
        await self._following.take_over()
        if self._batch.mode == "auto":
            for batch in reversed(await self._poller.recent(LEARNT)):
                self._deadline.learn(batch.seconds)
            self._following.start(self._cancel_in_time())
        self._following.start(self._submitter.submit_for_ever(self._following.follow))

    def shared(self, page: Page, key: str, question: Question) -> Wait | None:
        """The wait of another page for the same answer, with this room or more, which this one shares."""
        wait = self._waits.shared(page, request_key(key, question.max_tokens))
        if wait is None and (roomier := question.roomier()) is not None:
            wait = self._waits.shared(page, request_key(key, roomier.max_tokens))
        return wait

    def charge(self, page: Page, key: str, kept: Answer) -> None:
        """What an answer has cost this run for which nobody had waited when it was collected."""
        if self._following.earlier.claim(key):
            page.spent += self._following.cost(kept)
            page.attempts += 1

    async def answer(self, page: Page, step: Step) -> Answered | Answer:
        """The end of the page's request, in as many batches as that takes; Later until there is one.

        Halted, CallFailed, or InBatch.
        """
        try:
            answered = await self._answer(page, step)
        except Later:
            raise
        except BaseException:
            self._waits.over(page)
            raise
        self._waits.over(page)
        return answered

    async def _answer(self, page: Page, step: Step) -> Answered | Answer:
        if page.given_up is not None:
            raise CallFailed("unavailable", page.given_up)
        key = answer_key(step.question, page.image.sha256)
        request = request_key(key, step.question.max_tokens)
        wait = page.wait
        if wait is not None and wait.key == request and (came := await self._came(wait, page, step)) is not None:
            return came
        if (running := self._following.earlier.batch(key)) is not None:
            self._join(running, page, request)
        if self._batch.mode == "online":
            return await self._online.answer(page, step)
        if (tried := await self._tried(page, step)) is not None:
            return tried
        if self._deadline.too_late:
            return await self._by_call(page, step)
        worst = await self._set_aside(page, step)
        self._submitter.backlog.add(Request(page, step, worst))
        raise Later(self._waits.begin(page, request, worst))

    async def _came(self, wait: Wait, page: Page, step: Step) -> Answer | None:
        """The answer that the page has waited for; None where it is to be asked for again. Raises as `answer` does."""
        end, wait.end = wait.end or NoAnswer(), None
        if wait.worst is None:  # an earlier run has asked
            page.attempts += isinstance(end, Failure)
        if isinstance(end, Answer):
            page.spent += self._following.cost(end)
            return end
        if isinstance(end, Failure):
            wait.failures += not (self._cancelling and end.error_type == "canceled")  # by us, to ask online instead
            self._check(end, step, wait.failures, page)
            return None
        if end.where is not None:
            raise InBatch(end.where)
        key = answer_key(step.question, page.image.sha256)
        kept = await self._keeping.kept(step.question, key)  # perhaps by an earlier run's batch
        if kept is not None:
            self.charge(page, key, kept)
        return kept

    async def _by_call(self, page: Page, step: Step) -> Answered:
        async with self._turns_online:
            if (failure := await restore_bytes(page)) is not None:
                raise CallFailed("unavailable", failure)
            return await self._online.answer(page, step)

    async def _cancel_in_time(self) -> None:
        """Once the deadline is near: what batches have answered by then is kept, the rest is asked about online."""
        while (seconds := self._deadline.until_cancelling(self._following.in_flight)) is not None:
            if seconds <= 0:
                self._cancelling = True
                for running in self._following.left:
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

    def _join(self, running: Running, page: Page, request: bytes) -> None:
        """Later, until an earlier run's batch has ended; InBatch where nobody waits for it, or Halted."""
        if self._batch.no_wait and running.intent.batch_id is not None:
            raise InBatch(where_is(running))
        if self._halting.left:
            raise Halted
        running.joined.append(request)
        raise Later(self._waits.begin(page, request))

    async def _set_aside(self, page: Page, step: Step) -> Decimal:
        """The worst case, set aside under the cap. Halted where it cannot be, or nothing more is to be asked."""
        self._halting.check()
        worst = self._pricer.worst_case(step.question, page.image)
        try:
            await self._online.budget.hold(worst)
        except BudgetSpent:
            self._halting.halt(Halt("paused", paused(self._online.budget, self._settings)))
            raise Halted from None
        if self._halting.reason is not None:
            self._online.budget.settle(worst, Decimal(0))
            raise Halted
        return worst

    def _stop(self, message: str) -> None:
        self._halting.halt(Halt.stopped(EndpointError(message)))
