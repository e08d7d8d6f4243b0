"""One answer to one question, however many calls that takes: within limits and budget, with back-off, written down."""

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from tasks.asking.answer import Answer
from tasks.asking.calls import CallLedger, OpenCall
from tasks.asking.client import secrets_of
from tasks.asking.failures import Failure, Scope, classify, explained
from tasks.asking.halting import FailureStreak, Halt, Halted, Halting
from tasks.asking.limits import Limits
from tasks.asking.limits.buckets import Load
from tasks.asking.limits.budget import Budget, BudgetSpent, Reservation
from tasks.asking.pages import EngineSettings, Page, Wait
from tasks.asking.priced import Pricer, SentNow
from tasks.asking.question import PATH, Bodies, Question, Step
from tasks.asking.reply import read_reply
from tasks.billing.usage import image_tokens
from tasks.errors import EndpointError, OutputError, Signal
from tasks.types import PreparedImage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import Response

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # after an image's first, second, ... failed call
THROTTLED_S = 1.0  # after a 429 or 529 that does not say how long; the limiter slows the others down
SPREAD = 0.05  # images that were turned away together do not come back together
USELESS_ANSWERS = 2  # perhaps paid, each of them: an image is asked about no more, until the next run
OUTAGE_CALLS, OUTAGE_S = 20, 120.0  # so many failed calls in a row, for so long: the endpoint is gone
BYTES_A_TOKEN = 3  # of text, to pace the run; the endpoint's own count corrects it


class CallFailed(Signal):
    """A page's call failed for good: refused, or out of attempts."""

    def __init__(self, status: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = status
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer whose call is still open in the ledger."""

    answer: Answer
    call: OpenCall
    error: str | None

    async def kept(self, key: str | None = None) -> None:
        """Close the call: killed before that, the run lists it as perhaps paid.

        With a key the answer itself is written down too, and survives a power loss when this returns. Raises
        OutputError if it does not.
        """
        record = None if key is None else (key, self.answer.to_record())
        line = self.call.answered(self.answer, error=self.error, record=record)
        if record is not None:
            await self.call.durable(line)


class Caller:
    """Calls the endpoint until there is an answer. Lives on one event loop."""

    def __init__(
        self,
        settings: EngineSettings,
        client: "AsyncAnthropic",
        limits: Limits,
        ledger: CallLedger,
        halting: Halting,
    ) -> None:
        self.budget = limits.budget
        self._settings = settings
        self._client = client
        self._bodies = Bodies(caching=settings.endpoint.caching)
        self._secrets = secrets_of(settings.endpoint)
        self._limiter = limits.limiter
        self._ledger = ledger
        self._halting = halting
        self._pricer = Pricer(settings, halting)
        self._streak = FailureStreak()
        self._usual_output = 0.0
        self._random = random.Random()  # noqa: S311  # jitter

    async def answer(self, page: Page, step: Step) -> Answered:
        """Call until there is an answer, to be kept by the caller; Halted, or CallFailed with the last failure."""
        if page.given_up is not None:  # by an earlier try of its chunk
            raise CallFailed("unavailable", page.given_up)
        failures, repeated = 0, False
        while True:
            result = await self._call_in_turn(page, step, repeated=repeated)
            if isinstance(result, Answered):
                return result
            self._stop_if_hopeless(result, step.question)
            if result.scope is not Scope.THROTTLE:
                failures += 1
            if (status := status_after(result, failures, page)) is not None:
                raise CallFailed(status, result)
            delay = self._delay(result, failures)
            with self._limiter.aside(delay):
                await self._halting.sleep(delay)
            repeated = True

    def charge(self, page: Page, key: str, kept: Answer) -> None:
        """What a kept answer has cost this run: nothing, unless `answer` said so."""

    def shared(self, page: Page, key: str, question: Question) -> Wait | None:  # noqa: ARG002  # calls are waited for
        """Nobody's wait."""
        return None

    async def _call_in_turn(self, page: Page, step: Step, *, repeated: bool) -> Answered | Failure:
        self._halting.check()
        question, image = step.question, page.image
        worst = self._pricer.worst_case(question, image)
        try:
            async with (
                self.budget.reserved(worst) as reservation,
                self._limiter.slot(self._load(question, image), repeated=repeated),
            ):
                self._halting.check()
                result = await self._call(page, step, worst)
                settle(reservation, result)
        except BudgetSpent:
            self._halting.halt(Halt("paused", paused(self.budget, self._settings)))
            raise Halted from None
        except OutputError as error:  # a call that cannot be written down is not made
            self._halting.halt(Halt.stopped(error))
            raise Halted from None
        if isinstance(result, Answered):
            answer = result.answer
            self._streak.end()
            self._limiter.answered(answer.latency_ms / 1000)
            self._usual_output += (answer.usage.output - self._usual_output) / 10
            page.spent += answer.cost_usd
        else:
            self._streak.add(result.error_type + result.message)
            if result.scope is Scope.THROTTLE:
                self._limiter.throttled(result.retry_after)
        return result

    async def _call(self, page: Page, step: Step, worst: Decimal) -> Answered | Failure:
        page.attempts += 1
        page.attempts_at[step.number] += 1
        attempt = page.attempts_at[step.number]
        call = await self._ledger.open(page, step, attempt=attempt, worst=worst)
        try:
            response = await self._post(self._bodies.body(step.question, page.image))
            self._limiter.observe(response.headers)
            return self._answered(response, call, page, step)
        except Exception as error:  # noqa: BLE001  # whatever it is becomes a row of the ledger
            if (refusal := getattr(error, "response", None)) is not None:
                self._limiter.observe(refusal.headers)
            failure = classify(error, self._secrets)
            call.failed(failure)
            if failure.scope is Scope.ANSWER:
                page.useless_answers += 1
                page.given_up = failure if page.useless_answers >= USELESS_ANSWERS else None
            return failure

    async def _post(self, body: bytes) -> "Response":
        """The response itself, whose headers pace the run, read to its end: `reply` makes an answer of it."""
        from httpx2 import Response

        async with self._halting.in_flight():
            return await self._client.post(PATH, cast_to=Response, content=body)

    def _answered(self, response: "Response", call: OpenCall, page: Page, step: Step) -> Answered:
        question = step.question
        where = self._settings.endpoint
        received = read_reply(
            response.content, base_url=where.base_url, max_tokens=question.max_tokens, secrets=self._secrets
        )
        request_id = response.headers.get("request-id")
        answer, error = self._pricer.answer(
            received,
            SentNow(page.uri, question.model, question.max_tokens),
            request_id=request_id and self._secrets.out_of(request_id, 80),
            latency_ms=call.elapsed_ms,
        )
        return Answered(answer, call, error)

    def _load(self, question: Question, image: PreparedImage) -> Load:
        text = question.text_bytes // BYTES_A_TOKEN
        return Load(image_tokens(image.width, image.height) + text, self._usual_output)

    def _delay(self, failure: Failure, failures: int) -> float:
        """Seconds until an image is asked about again: as the endpoint says, else exponential, with jitter."""
        if failure.retry_after:
            return failure.retry_after * self._random.uniform(1.0, 1.0 + SPREAD)
        if failure.scope is Scope.THROTTLE:
            return THROTTLED_S * self._random.uniform(0.5, 1.0)
        return BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * self._random.uniform(0.5, 1.0)

    def _stop_if_hopeless(self, failure: Failure, question: Question) -> None:
        """Halted if every call will be refused, or none has been answered for too long."""
        where, trouble = self._settings.endpoint, self._streak
        if failure.scope is Scope.RUN:
            message = explained(failure, question.model, where)
        elif failure.scope is Scope.ANSWER and trouble.all_alike:
            message = f"{where.base_url} answered {trouble.alike} times, each time of no use. {failure.message}"
        elif failure.scope is Scope.THROTTLE and trouble.seconds > self._settings.patience:
            message = f"{where.base_url} has turned away every call for {trouble.seconds / 60:.0f} minutes "
            message += f"({failure.status} {failure.error_type}). The same command goes on where this run stopped."
        elif failure.scope is Scope.MOMENT and trouble.calls >= OUTAGE_CALLS and trouble.seconds > OUTAGE_S:
            message = (
                f"{where.base_url} has not answered for {trouble.seconds / 60:.0f} minutes, {trouble.calls} calls "
            )
            message += f"in a row ({failure.message}) The same command goes on where this run stopped."
        else:
            return
        self._halting.halt(Halt.stopped(EndpointError(message)))
        raise Halted


def paused(budget: Budget, settings: EngineSettings) -> str:
    """Why no more calls are made, and what to do."""
    return (
        f"The next call could pass the cap of ${budget.cap} (${budget.used} used). "
        f"{settings.cap_remedy}, then run the same command again."
    )


def status_after(failure: Failure, failures: int, page: Page) -> str | None:
    """The status of the page's row if it is not asked about again in this run, after so many failed calls."""
    if failure.scope in (Scope.REQUEST, Scope.IMAGE):
        return "rejected" if failure.scope is Scope.REQUEST else "unreadable"
    if page.given_up is not None or (failure.scope is not Scope.THROTTLE and failures >= page.max_failures):
        return "unavailable"
    return None


def settle(reservation: Reservation, result: Answered | Failure) -> None:
    """What the cap has to count of a call."""
    paid = result.answer.paid if isinstance(result, Answered) else result.paid
    if paid == "maybe":
        reservation.maybe_paid()
    elif isinstance(result, Answered):
        reservation.paid(result.answer.cost_usd)
