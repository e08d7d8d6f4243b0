"""Merging: lines of a batch's results become kept answers and rows of `calls`, each once whoever reads them.

A line is an answer, a failure, or a request that is to be asked again; what it means does not depend on its place.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.asking.answer import MOST, Answer
from tasks.asking.batches.intents import Intended, Intent, place_of
from tasks.asking.batches.wire import MessageBatch
from tasks.asking.caller import Answered
from tasks.asking.calls import CallLedger
from tasks.asking.client import secrets_of
from tasks.asking.failures import Failure, Scope, scope_of
from tasks.asking.halting import Halting
from tasks.asking.keeping import Keeping
from tasks.asking.pages import BatchRequest, EngineSettings
from tasks.asking.priced import Pricer
from tasks.asking.reply import Received, read_reply
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError

STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
LONGEST_LINE = 40_000_000
LONGEST_WORD = 80
ANSWERS_AT_ONCE = 100  # answers that are kept together, and share an fsync


@dataclass(frozen=True, slots=True)
class Result:
    """How one request of a batch ended. `message_id` names the answer, as `request_id` would."""

    place: int
    end: Received | Failure
    message_id: str | None = None


class Merging:
    """Takes in the results of batches for one run. Lives on one event loop."""

    def __init__(self, settings: EngineSettings, keeping: Keeping, ledger: CallLedger, halting: Halting) -> None:
        self.pricer = Pricer(settings, halting, batch=True)
        self._settings = settings
        self._keeping = keeping
        self._ledger = ledger
        self._secrets = secrets_of(settings.endpoint)

    async def merge(
        self, intent: Intent, batch: MessageBatch | None, path: Path | None, ended: Mapping[BatchRequest, str]
    ) -> list[Answer | Failure]:
        """How every request ended, in the order of the intent; all that was answered is kept. Raises OutputError.

        Without a path the results are gone: each may have been paid. `ended` are the requests whose end some run has
        in its table `calls` already, which it took in until it was killed: it has paid for them, and they are not
        listed again.
        """
        results = (
            gone(intent)
            if path is None
            else results_in(path, intent, base_url=self._settings.endpoint.base_url, secrets=self._secrets)
        )
        milliseconds = min(max(round(((batch and batch.seconds) or 0.0) * 1000), 0), MOST)
        ends: dict[int, Answer | Failure] = {}
        while some := list(islice(results, ANSWERS_AT_ONCE)):
            merged = await asyncio.gather(*(self._merged(intent, result, milliseconds, ended) for result in some))
            ends.update(zip((result.place for result in some), merged, strict=True))
        return [ends[place] for place in range(len(intent.asked))]

    async def _merged(
        self, intent: Intent, result: Result, milliseconds: int, ended: Mapping[BatchRequest, str]
    ) -> Answer | Failure:
        asked = intent.asked[result.place]
        by_run = ended.get((asked.uri, asked.page, asked.step, asked.attempt))
        if isinstance(result.end, Failure):
            if by_run is None:
                self._ledger.batched(_about(asked, intent)).failed(result.end)
            return result.end
        answer, error = self.pricer.answer(result.end, asked, request_id=result.message_id, latency_ms=milliseconds)
        if by_run is not None:
            answer = replace(answer, run_id=by_run)
            await self._keeping.keep_again(asked.key, answer)
            return answer
        call = self._ledger.batched(_about(asked, intent))
        await self._keeping.keep(asked.key, Answered(answer, call, error))
        return answer


def _about(asked: Intended, intent: Intent) -> dict[str, Any]:
    """What `calls` says of a request beside its end."""
    return {
        "image": asked.uri,
        "page": asked.page,
        "sent_sha256": asked.sha256,
        "attempt": asked.attempt,
        "step": asked.step,
        "model": asked.model,
        "max_tokens": asked.max_tokens,
        "started_at": intent.written_at,
    }


def results_in(path: Path, intent: Intent, *, base_url: str, secrets: Secrets) -> Iterator[Result]:
    """Each request of the batch once, whatever the file says; one that it does not name is to be asked again.

    Where it names one several times an answer counts, which was paid for, before a failure, and then the first line.
    """
    seen: set[int] = set()
    for answered in (True, False):
        if len(seen) < len(intent.asked):
            for place, result in _named_in(path, intent):
                if place not in seen and (_kind(result) == "succeeded") is answered:
                    seen.add(place)
                    yield _result(place, result, intent.asked[place].max_tokens, base_url, secrets)
    for place in range(len(intent.asked)):
        if place not in seen:
            yield Result(
                place, _failure(Scope.ANSWER, "The results do not name this request.", "missing", paid="maybe")
            )


def _named_in(path: Path, intent: Intent) -> Iterator[tuple[int, Any]]:
    """Place and result of every line that names a request of the batch."""
    with path.open("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            row = _row(line)
            place = place_of(intent.word, row.get("custom_id"))
            if place is not None and place < len(intent.asked):
                yield place, row.get("result")


def gone(intent: Intent) -> Iterator[Result]:
    """What became of each request of a batch whose results are there no more: nobody knows, so it may be paid."""
    for place in range(len(intent.asked)):
        why = "The results of the batch are there no more: they were deleted, or are older than 29 days."
        yield Result(place, _failure(Scope.MOMENT, why, "gone", paid="maybe"))


def are_of(path: Path, word: str) -> bool | None:
    """Whether these are the results of the batch with this word; None where no line says whose they are.

    Every line is looked at until one is ours: what stands in the first may be damaged.
    """
    anothers = None
    with path.open("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            named = _row(line).get("custom_id")
            if place_of(word, named) is not None:
                return True
            anothers = False if isinstance(named, str) else anothers
    return anothers


def lines_in(path: Path) -> int:
    """How many there are."""
    with path.open("rb") as lines:
        return sum(1 for line in iter(lambda: lines.readline(LONGEST_LINE), b"") if line.endswith(b"\n"))


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _result(place: int, result: Any, max_tokens: int, base_url: str, secrets: Secrets) -> Result:
    kind = _kind(result)
    if kind == "succeeded":
        return _answered(place, result.get("message"), max_tokens, base_url, secrets)
    if kind == "errored":
        return Result(place, _errored(result.get("error"), secrets))
    if kind in ("expired", "canceled"):
        words = {"expired": "The batch's time was over before its turn came.", "canceled": "The batch was cancelled."}
        return Result(place, _failure(Scope.MOMENT, words[kind], kind))
    return Result(place, _failure(Scope.ANSWER, "The result is malformed.", "malformed_answer", paid="maybe"))


def _kind(result: Any) -> Any:
    return result.get("type") if isinstance(result, dict) else None


def _answered(place: int, message: Any, max_tokens: int, base_url: str, secrets: Secrets) -> Result:
    name = message.get("id") if isinstance(message, dict) else None
    message_id = secrets.out_of(name, LONGEST_WORD) if isinstance(name, str) else None
    usage = message.get("usage") if isinstance(message, dict) else None
    if isinstance(usage, dict) and usage.get("service_tier") == "batch":  # the tier we asked for, whose price we know
        message = {**message, "usage": {**usage, "service_tier": "standard"}}
    try:
        body = json.dumps(message).encode()
        received = read_reply(body, base_url=base_url, max_tokens=max_tokens, secrets=secrets)
    except AnswerError as error:
        return Result(place, _failure(Scope.ANSWER, str(error), error.code, paid="maybe", status=200), message_id)
    return Result(place, received, message_id)


def _errored(answer: Any, secrets: Secrets) -> Failure:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return _failure(Scope.MOMENT, "The row failed without a reason.", "malformed_answer")
    kind, said, details = error.get("type"), error.get("message"), error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    message = said if isinstance(said, str) else "No reason was given."
    status = STATUSES.get(kind, 500) if isinstance(kind, str) else 500
    scope = scope_of(status, code if isinstance(code, str) else None, message)
    if scope is Scope.THROTTLE:  # nobody waits within a batch: it is asked again, like what failed for a moment
        scope = Scope.MOMENT
    word = "image_refused" if scope is Scope.IMAGE else code or kind or "errored"
    request_id = answer.get("request_id")
    return replace(
        _failure(scope, secrets.out_of(message), secrets.out_of(str(word), LONGEST_WORD), status=status),
        request_id=secrets.out_of(request_id, LONGEST_WORD) if isinstance(request_id, str) else None,
    )


def _failure(scope: Scope, message: str, kind: str, *, paid: str = "no", status: int | None = None) -> Failure:
    refused = scope in (Scope.REQUEST, Scope.IMAGE)
    return Failure(scope, "rejected" if refused else "failed", paid, message, kind, status=status)
