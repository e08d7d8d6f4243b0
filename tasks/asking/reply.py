"""The one place that reads what an endpoint says under a 200: nothing of it is priced, kept or counted before.

An answer whose text is well-formed is used, whatever else is wrong with it, since it was paid for, and asking again
would pay again:

- where `usage` cannot be true, nobody knows its price: the call is `maybe` paid, and the cap counts its worst case;
- where `model` or `stop_reason` is no name, that column stays empty.

`error` in `calls` says what was wrong. An answer without well-formed text is an AnswerError: its call is `maybe` paid,
and the image is asked about once more.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from tasks.asking.secrets import Secrets
from tasks.billing.usage import Malformed, Usage, kind_of, usage_of
from tasks.errors import AnswerError

NAME = re.compile(r"[\x21-\x7e]{1,200}")
# What an endpoint may count beyond what it was allowed: some tokens, should its tokenizer not be the model's.
SLACK, SPARE_TOKENS = 2, 1000


@dataclass(frozen=True, slots=True)
class Received:
    """One answer off the wire, not priced yet. `usage` is None where the endpoint's figures cannot be true."""

    text: str
    stop_reason: str | None
    model: str
    usage: Usage | None
    billed: bool
    wrong: str | None = None  # what of it is nonsense, in words


def read_reply(body: bytes, *, base_url: str, max_tokens: int, secrets: Secrets) -> Received:
    """Text, stop reason, model and usage of an answer's body; AnswerError where there is no text that could be used.

    `max_tokens` is what the request allowed.
    """
    message = _message(body, base_url, secrets)
    content = message["content"]
    wrong: list[str] = []
    stop_reason = _name(message, "stop_reason", wrong, secrets)
    # A refusal before the first word is free, although its usage is reported:
    # https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
    billed = bool(content) or stop_reason != "refusal"
    return Received(
        text=secrets.key_out_of("".join(map(_text, content))),  # thinking blocks may come first
        stop_reason=stop_reason,
        model=_name(message, "model", wrong, secrets) or "",
        usage=_usage(message.get("usage"), max_tokens, wrong, secrets) if billed else Usage(),
        billed=billed,
        wrong=f"The answer is malformed: {', '.join(wrong)}." if wrong else None,
    )


def _message(body: bytes, base_url: str, secrets: Secrets) -> dict[str, Any]:
    """The answer's JSON, if it is a message of the Messages API."""
    try:
        message = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _no_json(body, base_url, secrets) from None
    except (ValueError, RecursionError):
        raise AnswerError("malformed_answer", "The answer is malformed: it nests, or counts, without end.") from None
    if not isinstance(message, dict):
        raise _foreign(base_url)
    if message.get("type") == "error":
        error = message.get("error")
        said = error.get("message") if isinstance(error, dict) else error
        raise AnswerError("malformed_answer", f"The answer is an error under the status 200: {secrets.out_of(said)}")
    if "content" not in message and "usage" not in message:
        raise _foreign(base_url)
    content = message.get("content")
    if not isinstance(content, list):
        raise AnswerError("malformed_answer", f"The answer is malformed: content is {kind_of(content)}.")
    return message


def _foreign(base_url: str) -> AnswerError:
    return AnswerError(
        "foreign_answer",
        f"{base_url} answers with JSON that is not the Messages API's. Check that it is Anthropic-compatible.",
    )


def _no_json(body: bytes, base_url: str, secrets: Secrets) -> AnswerError:
    start = body[:1000].lstrip()
    if start.startswith((b"{", b"[")) or not start:
        return AnswerError("truncated_body", "The answer's JSON was cut off.")
    page = secrets.out_of(start.decode("utf-8", "replace"), 60)
    return AnswerError(
        "foreign_answer",
        f"{base_url} answers with a page, not with JSON ({page!r}). Check the endpoint's address and any login.",
    )


def _text(block: Any) -> str:
    """The text of a block, none where it is of another type."""
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise AnswerError("malformed_answer", "The answer is malformed: a block of content has no type.")
    if block["type"] != "text":
        return ""
    text = block.get("text")
    if not isinstance(text, str):
        raise AnswerError("malformed_answer", f"The answer is malformed: the text of a block is {kind_of(text)}.")
    return text


def _name(message: dict[str, Any], field: str, wrong: list[str], secrets: Secrets) -> str | None:
    value = message.get(field)
    if value is None or (isinstance(value, str) and NAME.fullmatch(value)):
        return value and secrets.key_out_of(value)
    wrong.append(f"{field} is {'no name' if isinstance(value, str) else kind_of(value)}")
    return None


def _usage(value: Any, max_tokens: int, wrong: list[str], secrets: Secrets) -> Usage | None:
    try:
        usage = usage_of(value)
        if usage.output > SLACK * max_tokens + SPARE_TOKENS:
            raise Malformed("usage.output_tokens is beyond max_tokens")
    except Malformed as error:
        wrong.append(str(error))
        return None
    if usage.unpriced:  # words of the endpoint's own
        return replace(usage, geo=usage.geo and secrets.out_of(usage.geo), unpriced=secrets.out_of(usage.unpriced))
    return usage
