"""From a page to its outcome: kept answers first, then one question after another until an answer is good."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Protocol

from tasks.asking.answer import Answer, judge
from tasks.asking.caller import Answered, CallFailed
from tasks.asking.claim_log import CLAIM_POLL_S3_S
from tasks.asking.claims import Claimed, Claims
from tasks.asking.failures import Failure, Scope
from tasks.asking.firsts import Firsts
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.keeping import Keeping, patiently, reason_of
from tasks.asking.pages import WAITING, EngineSettings, Later, Outcome, Page, Wait, unasked
from tasks.asking.question import Question, Step, answer_key, request_key
from tasks.errors import OutputError, Signal

LONGER_S = 10.0  # than the time limit of one call: so long a picture waits for another run that asks about it
BUSY = Failure(
    Scope.MOMENT,
    "failed",
    "no",
    "Another run asks about the same picture and has not ended. The same command finds its answer later.",
    "busy",
)


class Asker(Protocol):
    """A way to ask."""

    async def answer(self, page: Page, step: Step) -> Answered | Answer:
        """One to be kept, or one that is kept already.

        Halted, CallFailed, Later, or InBatch where nobody waits for it.
        """

    def shared(self, page: Page, key: str, question: Question) -> Wait | None:
        """The wait of another page for the same answer, with this room or more, which this one shares.

        None where nobody waits.
        """

    def charge(self, page: Page, key: str, kept: Answer) -> None:
        """Count with the page what a kept answer has cost this run that nobody had waited for."""


class InBatch(Signal):
    """The question is in a Message Batch that this run does not wait for."""


class FallbackChain:
    """Tries the steps of the job for each page. Lives on one event loop."""

    def __init__(
        self, settings: EngineSettings, keeping: Keeping, asker: Asker, halting: Halting, claims: Claims
    ) -> None:
        self._settings = settings
        self._keeping = keeping
        self._asker = asker
        self._halting = halting
        self._claims = claims
        self._pending: dict[tuple[str, int], asyncio.Task[tuple[Answer, bool]]] = {}
        self._firsts = Firsts()

    def forget(self) -> None:
        """Let go of what is known of each picture: nothing more will be asked."""
        self._firsts = Firsts()

    async def ask(self, page: Page) -> Outcome:
        """Ask until an answer is good or every step has been tried, then read a good answer's image again if asked to.

        However the second reading ends, the first answer stands. Later where an answer takes long: the same call goes
        on then, from what is kept.
        """
        first = await self._tried(page, self._settings.steps)
        if first.status != "ok" or not self._settings.second or not self._settings.reads_again(page, first):
            return first
        second = self._settings.second[first.step.number]
        return replace(first, second=await self._tried(page, (second,)))

    async def _tried(self, page: Page, steps: tuple[Step, ...]) -> Outcome:
        """What came last is the outcome."""
        outcome: Outcome | None = None
        for step in steps:
            question: Question | None = step.question
            roomier = step.question.roomier()
            if roomier is not None and waits_for(page, step.question, roomier.max_tokens):
                question, roomier = roomier, None  # where it was: the claim on the answer is held for this request
            while question is not None:
                try:
                    outcome = await self._outcome(page, replace(step, question=question))
                except Halted:  # whatever was answered before is kept: a later run goes on from there
                    return unasked(step, self._halting.reason)
                except InBatch as waiting:
                    return Outcome("unasked", step, error_code=WAITING, error=str(waiting))
                except CallFailed as failed:
                    if failed.status == "rejected" and outcome is None and question is not step.question:
                        outcome = await self._outcome(page, step)  # what was cut off is kept
                    return _failed(failed, step, before=outcome)
                if outcome.status == "ok":
                    return outcome
                question, roomier = (roomier if outcome.status == "truncated" else None), None
        assert outcome is not None, "a chain has at least one step"
        return outcome

    async def _outcome(self, page: Page, step: Step) -> Outcome:
        key = answer_key(step.question, page.image.sha256)
        answer, cached = await self._once(page, step, key)
        first = self._firsts.first(key, page.place)
        status, code, reason = judge(answer, self._settings.schema)
        duplicate_of = first[0] if first != page.place else None
        if not (cached or duplicate_of or page.attempts) and answer.run_id == self._settings.run_id:
            if answer.image != page.uri:  # asked about by another process of this run
                duplicate_of = answer.image
            else:  # by an earlier one, which died
                page.attempts, page.spent = 1, answer.cost_usd
        return Outcome(status, step, answer, cached, duplicate_of, code, reason)

    async def _once(self, page: Page, step: Step, key: str) -> tuple[Answer, bool]:
        """The answer, and whether an earlier run paid for it; copies asked at the same moment share one call."""
        pending_key = (key, step.question.max_tokens)
        task = self._pending.get(pending_key)
        if task is None:
            if (wait := self._asker.shared(page, key, step.question)) is not None:
                raise Later(wait)
            task = asyncio.create_task(self._kept_or_asked(page, step, key))
            self._pending[pending_key] = task
            task.add_done_callback(lambda _: self._pending.pop(pending_key, None))
        try:
            return await task
        finally:
            del task  # it holds what it raised, whose traceback holds this frame

    async def _kept_or_asked(self, page: Page, step: Step, key: str) -> tuple[Answer, bool]:
        """Alone, so that what two runs ask at the same moment is paid once: the second finds it kept."""
        seconds = self._settings.timeout + LONGER_S
        held = waits_for(page, step.question, step.question.max_tokens)
        try:
            async with self._claims.alone(key, seconds, self._halting.sleep, held=held):
                kept = None if held else await self._kept_or_claimed(step.question, key, seconds)
                if kept is not None:
                    self._asker.charge(page, key, kept[0])
                answered = kept or await self._asked(page, step, key)
                self._firsts.first(key, page.place)  # here: a copy that comes just now may go on before this page
                return answered
        except Claimed:
            raise CallFailed("unavailable", BUSY) from None

    async def _kept_or_claimed(self, question: Question, key: str, seconds: float) -> tuple[Answer, bool] | None:
        """The kept answer; None once nobody else may ask. Claimed if somebody does, and takes too long."""
        deadline = monotonic() + seconds
        while True:
            first = await self._first(key)
            kept = await self._keeping.kept(question, key)
            if kept is not None:
                return kept, kept.run_id != self._settings.run_id
            if first:
                return None
            if monotonic() > deadline:
                raise Claimed
            await self._halting.sleep(CLAIM_POLL_S3_S)

    async def _first(self, key: str) -> bool:
        try:
            return await patiently(lambda: self._claims.first(key))
        except Exception as error:  # noqa: BLE001  # whatever the storage raises: what cannot be claimed is not asked
            self._keeping.stop(f"An answer could not be claimed ({reason_of(error)}). Give access")
            raise Halted from None

    async def _asked(self, page: Page, step: Step, key: str) -> tuple[Answer, bool]:
        answered = await self._asker.answer(page, step)
        if isinstance(answered, Answer):
            return answered, answered.run_id != self._settings.run_id
        try:
            await self._keeping.keep(key, answered)
        except OutputError as error:  # of the journal: the first write that fails stops the run
            self._halting.halt(Halt.stopped(error))
        return answered.answer, False


def waits_for(page: Page, question: Question, room: int) -> bool:
    """Whether the page comes again for the question's request with so much room."""
    if page.wait is None:  # as all pages that are asked about online
        return False
    return page.wait.key == request_key(answer_key(question, page.image.sha256), room)


def _failed(failed: CallFailed, step: Step, *, before: Outcome | None) -> Outcome:
    """A rejected fallback leaves the answer before it standing; one that is unavailable is asked again."""
    if before is not None and failed.status == "rejected":
        return before
    failure, given_up = failed.failure, failed.failure.scope is Scope.ANSWER
    return Outcome(failed.status, step, error_code=failure.error_type, error=failure.message, given_up=given_up)
