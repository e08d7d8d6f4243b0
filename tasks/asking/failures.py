"""What a failed call means: whether it was paid, whether asking again helps, whether it stops the whole run.

Decided by class, status and `error_code`, never by the text of a message, with one exception that the API leaves no
other way to tell: an organisation's own spend limit comes as a plain 400.
"""

import json
import re
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any

from config.endpoints import Endpoint
from tasks.asking.answer import ForeignAnswer

SPEND_CODES = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
STOPPING_400 = {"organization_on_hold"}
OWN_LIMIT_TEXT = "You have reached your specified"
LONGEST_WAIT = 300.0
ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{64,}")


class Scope(StrEnum):
    """What a failure is about."""

    THROTTLE = "throttle"  # the endpoint is busy or we are too fast: wait, then ask again
    MOMENT = "moment"  # this call went wrong: ask again
    IMAGE = "image"  # this request is refused: asking again is pointless
    RUN = "run"  # every request will be refused


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call, without the request, the key or the image."""

    scope: Scope
    outcome: str
    paid: str
    message: str
    error_type: str
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None


def classify(error: Exception) -> Failure:
    """The failure behind an exception of the SDK or of reading its answer; one that nobody foresaw stops the run."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error)
    if isinstance(error, anthropic.APITimeoutError) and not _never_sent(error.__cause__):
        return Failure(Scope.MOMENT, "failed", "maybe", "No answer within the time limit.", "timeout")
    if isinstance(error, anthropic.APIConnectionError):
        cause = error.__cause__
        paid = "no" if _never_sent(cause) else "maybe"
        reason = f"The connection failed ({type(cause).__name__ if cause else 'unknown'})."
        return Failure(Scope.MOMENT, "failed", paid, reason, "connection")
    if isinstance(error, json.JSONDecodeError | anthropic.APIResponseValidationError | UnicodeDecodeError):
        return Failure(Scope.MOMENT, "failed", "maybe", "The answer's JSON was cut off.", "truncated_body", status=200)
    if isinstance(error, ForeignAnswer):
        return Failure(Scope.RUN, "failed", "maybe", str(error), "foreign_answer", status=200)
    if type(error).__module__.startswith(("httpx2", "httpcore2")):  # the body broke off after the headers
        return Failure(Scope.MOMENT, "failed", "maybe", f"The answer broke off ({type(error).__name__}).", "connection")
    # Only the kind and the place: the text of an exception may hold the key or the image.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return Failure(Scope.RUN, "failed", "maybe", f"The client failed ({type(error).__name__} in {where}).", "client")


def _never_sent(cause: BaseException | None) -> bool:
    """Whether no connection was made, so that nothing can have been paid.

    The SDK's aiohttp transport says ConnectError also where a connection broke; what it was raised from tells.
    """
    import httpx2
    from aiohttp import ClientConnectorError

    if isinstance(cause, httpx2.ConnectError):
        return isinstance(cause.__cause__, ClientConnectorError)
    return isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)


def without_secrets(message: str, key: str) -> str:
    """The message without the key, and without anything that could be image data."""
    return ENCODED.sub("...", message.replace(key, "...") if key else message)


def explained(failure: Failure, model: str, where: Endpoint) -> str:
    """One line about a failure that stops the run: what was answered, and what to do."""
    if failure.status is None or failure.error_type == "foreign_answer":
        return failure.message
    said = f"{where.base_url} answered {failure.status} {failure.error_type}: {failure.message}"
    remedy = {
        401: f"Check {where.key_env or 'the key'} and how {where.name} wants it sent (config/endpoints.toml).",
        402: "Check the account's billing.",
        403: "Check what this key may do.",
        404: f"Check --model {model} and --endpoint; a /v1 in the address is not needed.",
    }.get(failure.status, "Check the account's limits.")
    return f"{said} {remedy}"


def _status_failure(error: Any) -> Failure:
    status: int = error.status_code
    code = getattr(error, "error_code", None)
    error_type = code or getattr(error, "type", None) or f"http_{status}"
    message = " ".join(str(getattr(error, "api_message", None) or f"HTTP {status}").split())[:500]
    headers = error.response.headers
    scope = _scope(status, code, message)
    if scope in (Scope.MOMENT, Scope.IMAGE) and headers.get("x-should-retry") in ("true", "false"):
        scope = Scope.MOMENT if headers["x-should-retry"] == "true" else Scope.IMAGE
    outcome = {429: "throttled", 529: "overloaded"}.get(status, "rejected" if scope is Scope.IMAGE else "failed")
    return Failure(
        scope=scope,
        outcome=outcome,
        paid="maybe" if status in (408, 504) else "no",
        message=message,
        error_type=str(error_type),
        status=status,
        retry_after=retry_after(headers),
        request_id=error.request_id,
    )


def _scope(status: int, code: str | None, message: str) -> Scope:
    if code in SPEND_CODES or code in STOPPING_400 or (code or "").startswith("cmek_key_disabled"):
        return Scope.RUN
    if status in (401, 402, 403, 404) or message.startswith(OWN_LIMIT_TEXT):
        return Scope.RUN
    if status in (429, 529):
        return Scope.THROTTLE
    if status in (408, 409) or status >= 500:
        return Scope.MOMENT
    return Scope.IMAGE


def retry_after(headers: Any) -> float | None:
    """Seconds to wait from `retry-after-ms` or `retry-after` (seconds or an HTTP date, RFC 9110), at most 300."""
    if (milliseconds := headers.get("retry-after-ms")) is not None:
        seconds = _number(milliseconds)
        return min(seconds / 1000, LONGEST_WAIT) if seconds is not None else None
    value = headers.get("retry-after")
    if value is None:
        return None
    if (seconds := _number(value)) is not None:
        return min(seconds, LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000": the time is UTC, of a server that does not say where it is
        until = until.replace(tzinfo=UTC)
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if isfinite(number) else None
