"""Message Batches, from their requests to their results, apart from HTTP.

Rows are answered one after the other, evenly over the setting `batch_latency`; their parameters are only looked at
then, as at the API. What goes wrong with a row is drawn from `faults`, like any request's: a status makes it `errored`,
`expired`, `canceled` and `balance` are in the same list. What goes wrong with a batch stands in `batch_faults`:

  late=SECONDS         a new batch is not found for so long, though it is listed
  lost=N               the first N creates are done, and their replies never come
  unmade=N             the first N creates are cut off before anything was made
  busy=N               the first N creates are turned away with 529
  most=N               a create with more than N requests is too large: 413
  slow_cancel=SECONDS  so long a batch is `canceling`
  elsewhere            `results_url` is on the host of the setting `elsewhere`
  archived             the results are gone when the batch has ended

Sources: https://platform.claude.com/docs/en/api/creating-message-batches and .../build-with-claude/batch-processing
"""

import asyncio
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tasks.simulator.catalogue import ApiError, bad_request
from tasks.simulator.lies import encoded

if TYPE_CHECKING:
    from tasks.simulator.service import Service

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST_REQUESTS = 100_000
REFUSED = ("stream", "speed", "store", "previous_thread_event_id", "cache_hint", "context_hint", "fallbacks")
EXPIRES = timedelta(hours=24)
BATCH_FAULTS = ("late", "lost", "unmade", "busy", "most", "slow_cancel", "elsewhere", "archived")
ENDS = ("succeeded", "errored", "canceled", "expired")


@dataclass(slots=True)
class ServedBatch:
    """One batch: its requests until they are answered, then the lines of its results."""

    id: str
    waiting: list[dict[str, Any]]
    created: datetime
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDS, 0))
    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    hurried: bool = False
    cancelled: datetime | None = None
    ended: datetime | None = None
    archived: datetime | None = None

    def body(self, results_url: str) -> dict[str, Any]:
        """As JSON: counts stay with `processing` until the whole batch has ended."""
        over = self.ended is not None
        counts = self.counts if over else dict.fromkeys(ENDS, 0)
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "canceling" if self.cancelled else "in_progress",
            "request_counts": {"processing": 0 if over else self.size, **counts},
            "created_at": _time(self.created),
            "expires_at": _time(self.created + EXPIRES),
            "ended_at": _time(self.ended),
            "cancel_initiated_at": _time(self.cancelled),
            "archived_at": _time(self.archived),
            "results_url": results_url if over and self.archived is None else None,
        }


class Shelf:
    """All batches of a simulator, the newest last. Lives in one event loop."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._batches: dict[str, ServedBatch] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._creates = 0
        parse_batch_faults(service.settings.batch_faults)  # a ValueError now rather than at the first batch
        self._random = random.Random(service.settings.seed)  # noqa: S311  # an order, no secret

    def clear(self) -> None:
        """Forget every batch; those that run are cut off."""
        for task in self._running:
            task.cancel()
        self._batches.clear()
        self._creates = 0

    def let_go(self) -> None:
        """Answer the rows of every batch that runs, and wait between them no longer."""
        for batch in self._batches.values():
            batch.hurried = True

    def fault(self, name: str) -> float:
        """How much of a batch fault there is: seconds, a number of creates, or 1; 0 for none."""
        return parse_batch_faults(self._service.settings.batch_faults).get(name, 0.0)

    def create(self, body: Any) -> tuple[ServedBatch | None, bool]:
        """A new batch that begins to run, and whether the client hears of it; no batch where the fault is `unmade`."""
        requests = _requests(body)
        self._creates += 1
        if self._creates <= self.fault("busy"):
            raise ApiError(529, "overloaded_error", "Overloaded")
        if 0 < self.fault("most") < len(requests):
            raise ApiError(413, "request_too_large", "Request exceeds the maximum allowed number of bytes.")
        if self._creates <= self.fault("unmade"):
            return None, False
        batch_id = self._service.book.batch(len(requests))
        batch = ServedBatch(f"msgbatch_simulated_{self._service.request_id(batch_id)[14:]}", requests, _now())
        batch.size = len(requests)
        self._batches[batch.id] = batch
        task = asyncio.get_running_loop().create_task(self._run(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return batch, self._creates > self.fault("lost")

    def find(self, batch_id: str) -> ServedBatch:
        """The batch; a 404 where there is none, or for a while where the fault is `late`."""
        batch = self._batches.get(batch_id)
        if batch is None or (_now() - batch.created).total_seconds() < self.fault("late"):
            raise ApiError(404, "not_found_error", f"Message batch {batch_id} not found.")
        return batch

    def listed(self, query: Mapping[str, str]) -> tuple[list[ServedBatch], bool]:
        """A page of batches, the newest first, and whether there are more."""
        limit = query.get("limit", "20")
        if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
            raise bad_request("limit: Input should be between 1 and 1000")
        after, before = query.get("after_id"), query.get("before_id")
        batches = list(reversed(self._batches.values()))
        ids = [batch.id for batch in batches]
        if after in ids:
            batches = batches[ids.index(after) + 1 :]
        elif before in ids:
            batches = batches[: ids.index(before)][-int(limit) :]
        return batches[: int(limit)], len(batches) > int(limit)

    def cancel(self, batch_id: str) -> ServedBatch:
        """Answer no more of its rows; what was answered is kept and billed."""
        batch = self.find(batch_id)
        if batch.ended is not None:
            raise bad_request(f"Message batch {batch_id} has ended and cannot be canceled.")
        batch.cancelled = batch.cancelled or _now()
        return batch

    def delete(self, batch_id: str) -> None:
        """Forget a batch that has ended."""
        if self.find(batch_id).ended is None:
            raise bad_request(f"Message batch {batch_id} has not ended; cancel it first.")
        del self._batches[batch_id]

    def results(self, batch_id: str) -> Sequence[bytes]:
        """The lines, in an order of their own; a 404 before the end, and once they are gone."""
        batch = self.find(batch_id)
        if batch.ended is None or batch.archived is not None:
            raise ApiError(404, "not_found_error", f"Message batch {batch_id} has no results.")
        return batch.lines

    async def _run(self, batch: ServedBatch) -> None:
        loop, settings = asyncio.get_running_loop(), self._service.settings
        began = loop.time()
        for number, request in enumerate(batch.waiting):
            batch.waiting[number] = {}  # the images are let go of one by one
            await self._until(began + settings.batch_latency * (number + 1) / batch.size, batch)
            await self._end_row(batch, request)
        batch.waiting.clear()
        if batch.cancelled is not None:
            await asyncio.sleep(self.fault("slow_cancel"))
        self._random.shuffle(batch.lines)
        batch.ended = _now()
        batch.archived = batch.ended if self.fault("archived") else None

    async def _until(self, due: float, batch: ServedBatch) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while not batch.hurried and batch.cancelled is None and (wait := due - loop.time()) > 0:
            await asyncio.sleep(min(wait, 0.05))

    async def _end_row(self, batch: ServedBatch, request: dict[str, Any]) -> None:
        end, result = "canceled", b'{"type":"canceled"}'
        if batch.cancelled is None:
            end, result = await self._answered(batch, request["params"])
        batch.counts[end] += 1
        batch.lines.append(b'{"custom_id":' + json.dumps(request["custom_id"]).encode() + b',"result":' + result + b"}")

    async def _answered(self, batch: ServedBatch, params: Any) -> tuple[str, bytes]:
        service = self._service
        call = service.call(service.book.batched())
        call.batch = batch.id
        try:
            refuse_in_batches(params)
            answer = await service.answer_batched(call, params)
        except ApiError as error:
            service.finish(call, error.status, call.fault.name if call.fault.name != "ok" else "refused")
            return "errored", json.dumps({"type": "errored", "error": error.body(call.request_id)}).encode()
        service.finish(call, 200, call.fault.name)
        if answer is None:
            return call.fault.name, json.dumps({"type": call.fault.name}).encode()
        message = answer.message(call.message_id, call.question.asked_model if call.question else "")
        message["usage"]["service_tier"] = "batch"
        return "succeeded", b'{"type":"succeeded","message":' + encoded(message, call.fault.name) + b"}"


def parse_batch_faults(text: str) -> dict[str, float]:
    """Read a list of batch faults; ValueError says what is wrong with it."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if name not in BATCH_FAULTS:
            raise ValueError(f"unknown batch fault {name!r}; the simulator knows {', '.join(BATCH_FAULTS)}")
        found[name] = float(number or 1)
    return found


def refuse_in_batches(params: Any) -> None:
    """A 400 for what a Messages request may say and a batch's may not."""
    if not isinstance(params, dict):
        raise bad_request("params: Input should be a JSON object")
    if found := [name for name in REFUSED if name in params]:
        raise bad_request(f"{found[0]}: not supported in a Message Batch")
    if params.get("max_tokens") == 0:
        raise bad_request("max_tokens: 0 is not supported in a Message Batch")


def _requests(body: Any) -> list[dict[str, Any]]:
    """The requests, if their ids are good; their parameters are looked at later."""
    if not isinstance(body, dict) or not isinstance(body.get("requests"), list) or not body["requests"]:
        raise bad_request("requests: Input should be a list of at least one request")
    if unknown := set(body) - {"requests"}:
        raise bad_request(f"{min(unknown)}: Extra inputs are not permitted")
    requests: list[dict[str, Any]] = body["requests"]
    if len(requests) > MOST_REQUESTS:
        raise ApiError(413, "request_too_large", f"A batch may hold {MOST_REQUESTS} requests at most")
    seen: set[str] = set()
    for number, request in enumerate(requests):
        custom_id = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
            raise bad_request(f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if custom_id in seen:
            raise bad_request(f"requests.{number}.custom_id: {custom_id!r} is not unique in the batch")
        if set(request) != {"custom_id", "params"}:
            raise bad_request(f"requests.{number}: custom_id and params are required, and nothing else is permitted")
        seen.add(custom_id)
    return requests


def _now() -> datetime:
    return datetime.now(UTC)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
