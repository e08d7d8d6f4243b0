"""What a failed call means: whether it was paid, whether asking again helps, whether it stops the whole run.

Decided by class, status and `error_code`, never by the text of a message, with two exceptions that the API leaves no
other way to tell: an empty or own spending limit, and an image that it cannot read, come as a plain 400.
"""

import re
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from config.endpoints import Endpoint
from tasks.asking.halting import CutOff
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError

SPEND_CODES = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
STOPPING_400 = {"organization_on_hold"}
OWN_LIMIT_TEXT = "You have reached your specified"
NO_MONEY_TEXT = "Your credit balance is too low"  # a 400, the same for every image
LONGEST_WAIT = 300.0
IMAGE_CODES = {"image_dimensions_too_large"}
# How the API begins when the image itself is wrong: `Could not process image`, or the path of its bytes, which stand in
# the first block of our requests. Any other path is about the question.
IMAGE_TEXT = re.compile(
    r"messages\.0\.content\.0\.image\.source\.base64(\.data|\.media_type)?: |Could not process image\b"
)
LONGEST_WORD = 80


class Scope(StrEnum):
    """What a failure is about."""

    THROTTLE = "throttle"  # the endpoint is busy or we are too fast: wait, then ask again
    MOMENT = "moment"  # this call went wrong: ask again
    ANSWER = "answer"  # an answer came, perhaps paid, and is of no use: ask once more
    REQUEST = "request"  # this request is refused: asking again is pointless
    IMAGE = "image"  # its image is refused: so is any question about it
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


def classify(error: Exception, secrets: Secrets) -> Failure:
    """The failure behind an exception of the SDK or of reading its answer, without a secret."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error, secrets)
    if isinstance(error, CutOff):
        return Failure(Scope.MOMENT, "failed", "maybe", "The run had to end before the answer came.", "cut_off")
    if isinstance(error, anthropic.APIConnectionError):
        return _connection_failure(error)
    if isinstance(error, AnswerError):
        return _useless(error)
    # Only the kind and the place: the text of an exception may hold the key or the image.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return Failure(Scope.ANSWER, "failed", "maybe", f"The client failed ({type(error).__name__} in {where}).", "client")


def _useless(error: AnswerError) -> Failure:
    """Whoever cuts JSON off does so by accident: asked again like any call that went wrong."""
    scope = Scope.MOMENT if error.code == "truncated_body" else Scope.ANSWER
    return Failure(scope, "failed", "maybe", str(error), error.code, status=200)


def _connection_failure(error: Exception) -> Failure:
    import anthropic

    cause = error.__cause__
    if isinstance(cause, AnswerError):  # the SDK's word for whatever is raised while an answer is read
        return _useless(cause)
    if _never_sent(cause):
        return Failure(Scope.MOMENT, "failed", "no", _broken(cause), "connection")
    if isinstance(error, anthropic.APITimeoutError):
        return Failure(Scope.MOMENT, "failed", "maybe", "No answer within the time limit.", "timeout")
    return Failure(Scope.MOMENT, "failed", "maybe", _broken(cause), "connection")


def _broken(cause: BaseException | None) -> str:
    import httpx2

    kind = type(cause).__name__ if cause else "unknown"
    return (
        f"The answer broke off ({kind})." if isinstance(cause, httpx2.ReadError) else f"The connection failed ({kind})."
    )


def _never_sent(cause: BaseException | None) -> bool:
    """Whether no connection was made, so that nothing can have been paid.

    The SDK's aiohttp transport says ConnectError also where a connection broke; what it was raised from tells.
    """
    import httpx2
    from aiohttp import ClientConnectorError

    if isinstance(cause, httpx2.ConnectError):
        return isinstance(cause.__cause__, ClientConnectorError)
    return isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)


def explained(failure: Failure, model: str, where: Endpoint) -> str:
    """One line about a failure that stops the run: what was answered, and what to do."""
    if failure.status is None or failure.status == 200:
        return failure.message
    if failure.error_type == REDIRECT:
        return f"{where.base_url} {failure.message}"
    said = f"{where.base_url} answered {failure.status} {failure.error_type}: {failure.message}"
    remedy = {
        401: f"Check {where.key_env or 'the key'} and how {where.name} wants it sent (config/endpoints.toml).",
        402: "Check the account's billing.",
        403: "Check what this key may do.",
        404: f"Check --model {model} and --endpoint; a /v1 in the address is not needed.",
    }.get(failure.status, "Check the account's limits.")
    return f"{said} {remedy}"


def _status_failure(error: Any, secrets: Secrets) -> Failure:
    status: int = error.status_code
    headers = error.response.headers
    if 300 <= status < 400:
        message = redirected(status, str(error.request.url), headers.get("location", ""), secrets)
        return Failure(Scope.RUN, "failed", "no", message, REDIRECT, status=status)
    code = getattr(error, "error_code", None)
    error_type = secrets.out_of(code or getattr(error, "type", None) or f"http_{status}", LONGEST_WORD)
    message = secrets.out_of(getattr(error, "api_message", None) or f"HTTP {status}")
    scope = scope_of(status, code, message)
    if scope in (Scope.MOMENT, Scope.REQUEST) and headers.get("x-should-retry") in ("true", "false"):
        scope = Scope.MOMENT if headers["x-should-retry"] == "true" else Scope.REQUEST
    refused = scope in (Scope.REQUEST, Scope.IMAGE)
    request_id = headers.get("request-id")
    return Failure(
        scope=scope,
        outcome={429: "throttled", 529: "overloaded"}.get(status, "rejected" if refused else "failed"),
        paid="maybe" if status in (408, 504) else "no",
        message=message,
        error_type="image_refused" if scope is Scope.IMAGE else error_type,
        status=status,
        retry_after=retry_after(headers),
        request_id=request_id and secrets.out_of(request_id, LONGEST_WORD),
    )


REDIRECT = "redirect"


def redirected(status: int, url: str, location: str, secrets: Secrets) -> str:
    """That an endpoint sends us elsewhere, and where: the address alone, since the rest may hold a secret."""
    try:
        parts = urlsplit(urljoin(url, location))
        target = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:  # an address that is none
        target = "nowhere"
    shown = secrets.out_of(target, 200)
    return (
        f"redirects to {shown} ({status}). Neither key nor image was sent there. "
        "If that is the right address, give it with --endpoint or ANTHROPIC_BASE_URL."
    )


def scope_of(status: int, code: str | None, message: str) -> Scope:
    """What a refusal is about, by status, `error_code` and, where nothing else tells, its first words."""
    if code in SPEND_CODES or code in STOPPING_400 or (code or "").startswith("cmek_key_disabled"):
        return Scope.RUN
    if status in (401, 402, 403, 404) or message.startswith((OWN_LIMIT_TEXT, NO_MONEY_TEXT)):
        return Scope.RUN
    if status in (429, 529):
        return Scope.THROTTLE
    if status in (408, 409) or status >= 500:
        return Scope.MOMENT
    if status == 400 and (code in IMAGE_CODES or IMAGE_TEXT.match(message)):
        return Scope.IMAGE
    return Scope.REQUEST


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
