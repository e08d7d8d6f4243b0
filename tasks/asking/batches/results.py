"""What a line of a batch's results means: an answer, a failure, or a request that is to be asked again."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.asking.batches.intents import Intent
from tasks.asking.batches.requests import place_of
from tasks.asking.failures import Failure, Scope, scope_of
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


@dataclass(frozen=True, slots=True)
class Result:
    """How one request of a batch ended. `message_id` names the answer, as `request_id` would."""

    place: int
    end: Received | Failure
    message_id: str | None = None


def results_in(path: Path, intent: Intent, *, base_url: str, secrets: Secrets) -> Iterator[Result]:
    """Each request of the batch once, whatever the file says; one that it does not name is to be asked again."""
    seen: set[int] = set()
    with path.open("rb") as lines:
        while line := lines.readline(LONGEST_LINE):
            row = _row(line)
            place = place_of(intent.word, row.get("custom_id"))
            if place is None or place >= len(intent.asked) or place in seen:
                continue
            seen.add(place)
            yield _result(place, row.get("result"), intent.asked[place].max_tokens, base_url, secrets)
    for place in range(len(intent.asked)):
        if place not in seen:
            yield Result(
                place, _failure(Scope.ANSWER, "The results do not name this request.", "missing", paid="maybe")
            )


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


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _result(place: int, result: Any, max_tokens: int, base_url: str, secrets: Secrets) -> Result:
    kind = result.get("type") if isinstance(result, dict) else None
    if kind == "succeeded":
        return _answered(place, result.get("message"), max_tokens, base_url, secrets)
    if kind == "errored":
        return Result(place, _errored(result.get("error"), secrets))
    if kind in ("expired", "canceled"):
        words = {"expired": "The batch's time was over before its turn came.", "canceled": "The batch was cancelled."}
        return Result(place, _failure(Scope.MOMENT, words[kind], kind))
    return Result(place, _failure(Scope.ANSWER, "The result is malformed.", "malformed_answer", paid="maybe"))


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
