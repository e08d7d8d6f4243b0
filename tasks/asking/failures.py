"""What a failed call means: whether it was paid, whether asking again helps, whether it stops the whole run.

Decided by class, status and `error_code`, never by the text of a message, with one exception that the API leaves no
other way to tell: an organisation's own spend limit comes as a plain 400.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from tasks.asking.answer import ForeignAnswer

SPEND_CODES = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
STOPPING_400 = {"organization_on_hold"}
OWN_LIMIT_TEXT = "You have reached your specified"
LONGEST_WAIT = 300.0


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
    """The failure behind an exception of the SDK or of reading its answer; other exceptions are raised again."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error)
    if isinstance(error, anthropic.APITimeoutError):
        return Failure(Scope.MOMENT, "failed", "maybe", "No answer within the time limit.", "timeout")
    if isinstance(error, anthropic.APIConnectionError):
        cause = error.__cause__
        sent = type(cause).__name__ not in ("ConnectError", "ConnectTimeout", "PoolTimeout")
        reason = f"The connection failed ({type(cause).__name__ if cause else 'unknown'})."
        return Failure(Scope.MOMENT, "failed", "maybe" if sent else "no", reason, "connection")
    if isinstance(error, json.JSONDecodeError | anthropic.APIResponseValidationError | UnicodeDecodeError):
        return Failure(Scope.MOMENT, "failed", "maybe", "The answer's JSON was cut off.", "truncated_body", status=200)
    if isinstance(error, ForeignAnswer):
        return Failure(Scope.RUN, "failed", "maybe", str(error), "foreign_answer", status=200)
    if type(error).__module__.startswith(("httpx2", "httpcore2")):  # the body broke off after the headers
        return Failure(Scope.MOMENT, "failed", "maybe", f"The answer broke off ({type(error).__name__}).", "connection")
    raise error


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
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return None
