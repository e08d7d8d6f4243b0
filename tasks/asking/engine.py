"""The engine: one event loop, one client, one limiter and one budget for all calls of a process.

Prefect's tasks are synchronous and wait in threads; every call runs here, so that calls in flight really are as many
as the job says, and so that one 429 slows all of them.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from decimal import Decimal
from time import monotonic
from typing import Any, Protocol, TypeVar

from config.endpoints import Endpoint
from config.prices import prices_of
from tasks.asking.answer import Answer, FitsSchema, judge, read_message, utc_now
from tasks.asking.budget import Budget, BudgetSpent, worst_case
from tasks.asking.calls import CallLedger
from tasks.asking.client import make_client
from tasks.asking.failures import Failure, Scope, classify
from tasks.asking.limiter import Limiter
from tasks.asking.question import Question, Step, answer_key, request
from tasks.errors import EndpointError, OutputError, PriceError, SchemaError, StopRun
from tasks.pricing import cost_usd
from tasks.records import PreparedImage

T = TypeVar("T")

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0)
THROTTLED_PATIENCE_S = 900.0  # with not one answer for so long, an overloaded endpoint counts as unavailable
ALIKE_FAILURES = 10  # so many first answers that all fail the same way mean that the question is wrong


class Keep(Protocol):
    """Where answers are kept."""

    async def get(self, key: str) -> dict[str, Any] | None:
        """The record, or None."""

    async def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep the record at once; OSError or the storage's own error if that fails."""


@dataclass(frozen=True)
class EngineSettings:
    """What the engine needs to know of the job."""

    run_id: str
    endpoint: Endpoint
    steps: tuple[Step, ...]
    schema: FitsSchema | None = None
    concurrency: int = 50
    per_second: float | None = None
    timeout: float = 180.0
    max_cost: Decimal | None = None
    refresh: bool = False
    one_first: bool = False


@dataclass(slots=True)
class Page:
    """One prepared page on its way through the engine; `spent` and `attempts` add up over retries of its batch."""

    uri: str
    image: PreparedImage
    attempts: int = 0
    may_fail: int = 1
    spent: Decimal = Decimal(0)

    def drop_bytes(self) -> None:
        """Free the image's bytes once they are not needed any more."""
        self.image = replace(self.image, data=b"")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for one page: the status of its row, and the answer if one was received."""

    status: str
    step: Step
    answer: Answer | None = None
    cached: bool = False
    duplicate_of: str | None = None
    error_code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Halt:
    """Why no more calls are made."""

    kind: str  # paused, stopped, interrupted
    message: str
    error: StopRun | None = None


class Halted(Exception):
    """No more calls are made."""


class CallFailed(Exception):
    """A page's call failed for good: refused, or out of attempts."""

    def __init__(self, status: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status = status
        self.failure = failure


@dataclass(slots=True)
class Progress:
    """Counters for whoever watches."""

    done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


class Engine:
    """Asks about pages until told to stop. Use as a context manager; `ask` may be called from many threads."""

    def __init__(self, settings: EngineSettings, keep: Keep, ledger: CallLedger) -> None:
        self.settings = settings
        self.ledger = ledger
        self.progress = Progress()
        self.halt: Halt | None = None
        self._keep = keep
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="visionflow-engine", daemon=True)
        self._pending: dict[tuple[str, int], asyncio.Task[tuple[Answer, bool]]] = {}
        self._asking: set[asyncio.Future[Any]] = set()
        self._first_with: dict[str, tuple[str, int]] = {}
        self._prices = {step.question.model: self._prices_of(step.question.model) for step in settings.steps}
        self._last_good = monotonic()
        self._random = random.Random()  # noqa: S311  # jitter

    def _prices_of(self, model: str) -> Any:
        return prices_of(self.settings.endpoint.prices, model)

    def __enter__(self) -> "Engine":
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._drain())
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        settings = self.settings
        self._client = make_client(settings.endpoint, concurrency=settings.concurrency, timeout=settings.timeout)
        self._limiter = Limiter(settings.concurrency, per_second=settings.per_second, one_first=settings.one_first)
        self._budget = Budget(settings.max_cost)
        self._halting = asyncio.Event()

    async def _drain(self) -> None:
        """Let calls in flight finish and be kept, for whoever asked still waits for them."""
        if self._asking:
            self._halt(Halt("stopped", "The run ended early."))
            await asyncio.wait(self._asking)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._limiter.in_flight

    @property
    def peak_in_flight(self) -> int:
        """Most calls that were under way at once."""
        return self._limiter.peak

    def ask(self, pages: list[Page], *, attempts: int) -> list[Outcome]:
        """Ask about every page and wait for all; each page gets its outcome, whatever happens.

        `attempts` calls may fail before a page counts as unavailable; being throttled is no failure.
        """
        return self._run(self._ask_all(pages, attempts))

    def stop(self, halt: Halt) -> None:
        """Make no more calls; those in flight finish and are kept. The first reason given stands."""
        self._loop.call_soon_threadsafe(self._halt, halt)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _halt(self, halt: Halt) -> None:
        if self.halt is None:
            self.halt = halt
            self._halting.set()
            self._limiter.wake_all()

    async def _ask_all(self, pages: list[Page], attempts: int) -> list[Outcome]:
        for page in pages:
            page.may_fail = attempts
        asking = asyncio.ensure_future(asyncio.gather(*(self._ask(page) for page in pages)))
        self._asking.add(asking)
        try:
            return list(await asking)
        finally:
            self._asking.discard(asking)

    async def _ask(self, page: Page) -> Outcome:
        """Climb the ladder until an answer is good, and let go of the bytes when nothing more can be asked."""
        outcome = await self._climb(page)
        if outcome.status != "unavailable":
            page.drop_bytes()
            self.progress.done += 1
            self.progress.statuses[outcome.status] += 1
            self._stop_if_all_alike(outcome)
        return outcome

    async def _climb(self, page: Page) -> Outcome:
        outcome: Outcome | None = None
        for step in self.settings.steps:
            question: Question | None = step.question
            roomier = step.question.roomier()
            while question is not None:
                try:
                    outcome = await self._outcome(page, replace(step, question=question))
                except Halted:
                    return outcome or self._unasked(step)
                except CallFailed as failed:
                    failure = failed.failure
                    return Outcome(failed.status, step, error_code=failure.error_type, error=failure.message)
                if outcome.status == "ok":
                    return outcome
                question, roomier = (roomier if outcome.status == "truncated" else None), None
        assert outcome is not None, "a ladder has at least one step"
        return outcome

    async def _outcome(self, page: Page, step: Step) -> Outcome:
        key = answer_key(step.question, page.image.sha256)
        place = (page.uri, page.image.page)
        first = self._first_with.setdefault(key, place)
        answer, cached = await self._once(page, step, key)
        status, code, reason = judge(answer, self.settings.schema)
        duplicate_of = first[0] if first != place else None
        return Outcome(status, step, answer, cached, duplicate_of, code, reason)

    async def _once(self, page: Page, step: Step, key: str) -> tuple[Answer, bool]:
        """The answer, and whether an earlier run paid for it; copies asked at the same moment share one call."""
        pending_key = (key, step.question.max_tokens)
        task = self._pending.get(pending_key)
        if task is None:
            task = asyncio.create_task(self._kept_or_asked(page, step, key))
            self._pending[pending_key] = task
            task.add_done_callback(lambda _: self._pending.pop(pending_key, None))
        return await task

    async def _kept_or_asked(self, page: Page, step: Step, key: str) -> tuple[Answer, bool]:
        kept = await self._kept(step.question, key)
        if kept is not None:
            return kept, kept.run_id != self.settings.run_id
        answer = await self._asked(page, step)
        try:
            await self._keep.put(key, answer.to_record())
        except Exception as error:  # noqa: BLE001  # whatever the storage raises: pay for nothing more
            reason = " ".join(str(error).split())[:200]
            stopped = OutputError(
                f"An answer could not be kept ({type(error).__name__}: {reason}). "
                "Make room or give access, then run the same command again."
            )
            self._halt(Halt("stopped", str(stopped), stopped))
        return answer, False

    async def _kept(self, question: Question, key: str) -> Answer | None:
        record = await self._keep.get(key)
        if record is None:
            return None
        try:
            answer = Answer.from_record(record)
        except (KeyError, TypeError, ValueError):  # torn by a crash, or written by another version
            return None
        if self.settings.refresh and answer.run_id != self.settings.run_id:
            return None
        if answer.truncated and answer.max_tokens < question.max_tokens:
            return None
        return answer

    async def _asked(self, page: Page, step: Step) -> Answer:
        """Call until there is an answer; Halted, or CallFailed with the last failure."""
        failures = throttles = 0
        worst = worst_case(step.question, page.image, self._prices[step.question.model])
        while True:
            result = await self._call_in_turn(page, step, worst)
            if isinstance(result, Answer):
                return result
            if result.scope is Scope.RUN:
                error = EndpointError(self._explained(result, step.question))
                self._halt(Halt("stopped", str(error), error))
                raise Halted
            if result.scope is Scope.IMAGE:
                raise CallFailed("rejected", result)
            if result.scope is Scope.THROTTLE and monotonic() - self._last_good < THROTTLED_PATIENCE_S:
                throttles += 1
            else:
                failures += 1
                if failures >= page.may_fail:
                    raise CallFailed("unavailable", result)
            await self._back_off(failures + throttles, result.retry_after)

    async def _call_in_turn(self, page: Page, step: Step, worst: Decimal) -> Answer | Failure:
        self._check_halt()
        try:
            async with self._budget.reserved(worst), self._limiter.place():
                self._check_halt()
                result = await self._call(page, step)
                if isinstance(result, Answer):
                    self._budget.spent += result.cost_usd
        except BudgetSpent:
            cap = self.settings.max_cost
            self._halt(Halt("paused", f"The next call could pass the cap of ${cap}. Raise --max-cost to go on."))
            raise Halted from None
        if isinstance(result, Answer):
            self._last_good = monotonic()
            page.spent += result.cost_usd
        if isinstance(result, Failure) and result.scope is Scope.THROTTLE:
            self._limiter.throttled(result.retry_after)
        else:
            self._limiter.answered()
        return result

    async def _call(self, page: Page, step: Step) -> Answer | Failure:
        question = step.question
        page.attempts += 1
        call = self.ledger.open(page.uri, page.image, question, step=step.number, attempt=page.attempts)
        try:
            raw = await self._client.messages.with_raw_response.create(**request(question, page.image))
            received = read_message(await raw.parse(), self.settings.endpoint.base_url)
            answer = Answer(
                text=received.text,
                stop_reason=received.stop_reason,
                model=received.model,
                request_id=raw.request_id,
                usage=received.usage,
                cost_usd=self._cost(received.usage, question.model),
                max_tokens=question.max_tokens,
                latency_ms=call.elapsed_ms,
                answered_at=utc_now(),
                run_id=self.settings.run_id,
                image=page.uri,
            )
        except Exception as error:  # noqa: BLE001  # raised again unless it is a failed call
            failure = classify(error)
            call.failed(failure)
            return failure
        call.answered(answer)
        return answer

    def _cost(self, usage: Any, model: str) -> Decimal:
        prices = self._prices[model]
        if not prices:  # the job said `unpriced: allow`
            return Decimal(0)
        try:
            return cost_usd(usage, prices)
        except PriceError as error:
            self._halt(Halt("stopped", str(error), error))
            return Decimal(0)

    async def _back_off(self, failures: int, retry_after: float | None) -> None:
        """Exponential with jitter, never shorter than the endpoint asked for; ends early when the run does."""
        backoff = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * self._random.uniform(0.5, 1.0)
        delay = retry_after * self._random.uniform(1.0, 1.1) if retry_after else backoff
        try:
            await asyncio.wait_for(self._halting.wait(), delay)
        except TimeoutError:
            return
        raise Halted

    def _check_halt(self) -> None:
        if self.halt is not None:
            raise Halted

    def _unasked(self, step: Step) -> Outcome:
        assert self.halt is not None
        return Outcome("unasked", step, error_code=self.halt.kind, error=self.halt.message)

    def _explained(self, failure: Failure, question: Question) -> str:
        """One line about a failure that stops the run."""
        where = self.settings.endpoint
        if failure.error_type == "foreign_answer":
            return failure.message
        said = f"{where.base_url} answered {failure.status} {failure.error_type}: {failure.message}"
        remedy = {
            401: f"Check {where.key or 'the key'} and how {where.name} wants it sent (config/endpoints.toml).",
            402: "Check the account's billing.",
            403: "Check what this key may do.",
            404: f"Check --model {question.model} and --endpoint; a /v1 in the address is not needed.",
        }.get(failure.status or 0, "Check the account's limits.")
        return f"{said} {remedy}"

    def _stop_if_all_alike(self, outcome: Outcome) -> None:
        """A wrong schema or prompt must not cost a thousand answers."""
        failing = outcome.status in ("invalid", "truncated", "rejected") and not outcome.cached
        statuses = self.progress.statuses
        if failing and statuses[outcome.status] == self.progress.done == ALIKE_FAILURES:
            error = SchemaError(
                f"The first {ALIKE_FAILURES} images all ended as {outcome.status} ({outcome.error}). "
                "Check the schema, the prompt and --max-tokens."
            )
            self._halt(Halt("stopped", str(error), error))
