"""What happens to one request, from its body to its answer, apart from HTTP."""

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from tasks.errors import UsageError
from tasks.simulator.content import Block
from tasks.simulator.faults import OK, SLOW_S, Fault, FaultPlan, Script, Settings, fault_error
from tasks.simulator.known import Known
from tasks.simulator.ledger import Book, Entry, cost, now
from tasks.simulator.messages import Message, answer, answer_text, cut_answer, garbage, refused, wants_text
from tasks.simulator.metering import ApiUsage, PromptCache, RateLimits
from tasks.simulator.ocr import Reader, model_folder
from tasks.simulator.rules import MessagesRequest, read_question

REMEMBERED_REQUESTS = 1000
SHOWN_CHARACTERS = 500
NOTHING = Decimal(0)
SERVER_FAILURES = frozenset({500, 502, 503, 504})


@dataclass(slots=True)
class Call:
    """One request to /v1/messages under way."""

    index: int
    request_id: str
    time: float
    started: float
    question: MessagesRequest | None = None
    fault: Fault = OK
    usage: ApiUsage = field(default_factory=ApiUsage)
    billed: bool = False
    batch: str | None = None  # the Message Batch it is a row of

    @property
    def message_id(self) -> str:
        """The id of its answer."""
        return self.request_id.replace("req_", "msg_", 1)


class Service:
    """The state behind the endpoints: models, limits, caches, faults and the ledger. Lives in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.book = Book(keep_entries=settings.keep_entries)
        self.limits = RateLimits(settings)
        self.cache = PromptCache()
        self.faults = FaultPlan(settings.faults, script=settings.script, seed=settings.seed)
        self.recent: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_REQUESTS)
        self.reader = _reader(settings)
        self.known = Known.of(settings)
        self._ids = secrets.token_hex(4)
        self._waiting: set[asyncio.Future[None]] = set()
        self._let_go = 0.0

    def reset(self) -> None:
        """As just started, with the present settings; what was read in images is still known."""
        self.book.clear()
        self.cache.clear()
        self.recent.clear()
        self.limits = RateLimits(self.settings)
        self.set_faults(self.settings.faults, self.settings.script)

    def set_faults(self, faults: str, script: Script = ()) -> None:
        """From the next request on, fail like this."""
        plan = FaultPlan(faults, script=script, seed=self.settings.seed)
        self.settings = replace(self.settings, faults=faults, script=script)
        self.faults = plan

    def change(self, **settings: Any) -> None:
        """Change latency, retry_after, seed or the limits from the next request on; new limits begin unused."""
        self.settings = replace(self.settings, **settings)
        if "seed" in settings:
            self.set_faults(self.settings.faults, self.settings.script)
        if any(name.endswith("_per_minute") for name in settings):
            self.limits = RateLimits(self.settings)

    def let_go(self) -> None:
        """Answer now what has arrived and waits for its latency."""
        self._let_go = asyncio.get_running_loop().time()
        for waiting in self._waiting:
            _over(waiting)

    def request_id(self, index: int) -> str:
        """An id that no other simulator and no other request has."""
        return f"req_simulated_{self._ids}{index:08d}"

    def call(self, index: int) -> Call:
        """A request that has just arrived."""
        return Call(index, self.request_id(index), now(), asyncio.get_running_loop().time())

    async def answer(self, call: Call, body: Any) -> Message | None:
        """The answer to a request's body; an ApiError where it is refused or fails by status.

        None where the fault gives no proper answer: the caller then fails in the way of `call.fault`. What is billed
        stands in `call`.
        """
        self.limits.take_request()
        question = call.question = read_question(body)
        plan = self.cache.plan(question)
        self.limits.take_input(plan.usage.prompt - plan.usage.cache_read)
        fault = call.fault = self.faults.next([image.sha256 for image in question.images])
        error = fault_error(fault, self.settings.retry_after)
        if error is not None and error.status not in SERVER_FAILURES:
            raise error
        if fault.name in ("drop_unpaid", "hang"):
            return None
        composed = await self._compose(question, fault, plan.usage)
        await self._sleep_until_due(call)
        if error is not None:
            raise error
        if fault.name in ("html", "html200", "foreign", "redirect"):
            return None
        call.usage = composed.usage
        call.billed = fault.name != "refusal_empty"
        self.cache.answer_begins(plan)
        self.limits.take_output(composed.usage.output)
        return None if fault.name in ("drop_paid", "drip", "flood", "bomb") else composed

    async def answer_batched(self, call: Call, params: Any) -> Message | None:
        """The answer to one row of a Message Batch; an ApiError where it fails, None where its turn never came.

        Faults that only a connection can have are none here.
        """
        question = call.question = read_question(params)
        plan = self.cache.plan(question)
        fault = call.fault = self.faults.next([image.sha256 for image in question.images])
        if (error := fault_error(fault, self.settings.retry_after)) is not None:
            raise error
        if fault.name in ("expired", "canceled"):
            return None
        composed = await self._compose(question, fault, plan.usage)
        call.usage = composed.usage
        call.billed = fault.name != "refusal_empty"
        self.cache.answer_begins(plan)
        return composed

    async def _compose(self, question: MessagesRequest, fault: Fault, prompt: ApiUsage) -> Message:
        if fault.name in ("refusal", "refusal_empty"):
            return refused(question, prompt, empty=fault.name == "refusal_empty")
        if fault.name == "garbage":
            return answer(question, garbage(question.schema), prompt)
        text = self.known.answer(question) if self.known else None
        if text is None:
            text = answer_text(question, await self._read(question))
        return cut_answer(question, text, prompt) if fault.name == "max_tokens" else answer(question, text, prompt)

    async def _read(self, question: MessagesRequest) -> str | None:
        if self.reader is None or not wants_text(question):
            return None
        texts = [await self.reader.read(image.sha256, image.data) for image in question.images]
        return "\n\n".join(texts)

    async def _sleep_until_due(self, call: Call) -> None:
        """The latency counts from the arrival, so that work done meanwhile does not add to it."""
        slow = call.fault.seconds if call.fault.seconds is not None else SLOW_S
        due = call.started + self.settings.latency + (slow if call.fault.name == "slow" else 0.0)
        loop = asyncio.get_running_loop()
        if due <= loop.time() or call.started <= self._let_go:
            return
        waiting = loop.create_future()
        timer = loop.call_at(due, _over, waiting)
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            timer.cancel()

    def finish(self, call: Call, http_status: int, outcome: str, *, delivered: bool = True) -> None:
        """Write the request into the ledger."""
        question = call.question
        entry = Entry(
            index=call.index,
            time=call.time,
            seconds=round(asyncio.get_running_loop().time() - call.started, 6),
            request_id=call.request_id,
            images=tuple(image.sha256 for image in question.images) if question else (),
            model=question.asked_model if question else "",
            max_tokens=question.max_tokens if question else 0,
            outcome=outcome,
            http_status=http_status,
            billed=call.billed,
            delivered=delivered,
            usage=call.usage,
            cost_usd=cost(question.model, call.usage, batch=bool(call.batch)) if question and call.billed else NOTHING,
            batch=call.batch,
        )
        self.book.write(entry)
        self.recent.append(_summary(entry, question))


def _over(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _summary(entry: Entry, question: MessagesRequest | None) -> dict[str, Any]:
    """What a person wants to see of a request; never an image's bytes or a key."""
    summary: dict[str, Any] = {name: getattr(entry, name) for name in ("index", "time", "request_id", "outcome")}
    summary |= {"http_status": entry.http_status, "model": entry.model, "max_tokens": entry.max_tokens}
    if question is None:
        return summary
    return summary | {
        "system": _words(question.fixed),
        "prompt": _words(question.asked),
        "effort": question.effort,
        "thinks": question.thinks,
        "schema": question.schema is not None,
        "images": [
            {"media_type": i.media_type, "width": i.width, "height": i.height, "bytes": len(i.data), "sha256": i.sha256}
            for i in question.images
        ],
    }


def _words(blocks: Sequence[Block]) -> str:
    return "\n".join(block.text for block in blocks if block.text)[:SHOWN_CHARACTERS]


def _reader(settings: Settings) -> Reader | None:
    if not settings.ocr:
        return None
    folder = model_folder()
    if folder is None:
        raise UsageError('No OCR engine is installed: run `pip install "visionflow[ocr]"`, or simulate without OCR.')
    return Reader(folder, settings.ocr_workers)


def settings_from(body: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that POST /simulator/faults may change beside the faults; ValueError for any other name."""
    numbers = {"latency": float, "retry_after": float, "seed": int, "requests_per_minute": int, "batch_latency": float}
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name in ("faults", "script"):
            continue
        if name not in numbers or not isinstance(value, int | float):
            raise ValueError(f"{name!r} is not a number of {', '.join(numbers)}")
        changes[name] = numbers[name](value)
    return changes
