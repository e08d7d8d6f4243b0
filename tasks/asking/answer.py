"""Reading an answer: its text, its usage, and whether it is what was asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from tasks.billing.pricing import Usage, usage_of
from tasks.errors import EndpointError

TRUNCATED = ("max_tokens", "model_context_window_exceeded")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint answered and what that cost; kept for ever under the question and the image's digest."""

    text: str
    stop_reason: str | None
    model: str
    request_id: str | None
    usage: Usage
    cost_usd: Decimal
    max_tokens: int
    latency_ms: int
    answered_at: datetime
    run_id: str
    image: str
    paid: str = "yes"  # as in the table `calls`; `maybe` where a class of tokens has no price

    def to_record(self) -> dict[str, Any]:
        """As JSON for the result store."""
        # dataclasses.asdict would copy deeply, at ten times the CPU.
        record = {name: getattr(self, name) for name in self.__slots__}
        record["usage"] = {name: getattr(self.usage, name) for name in self.usage.__slots__}
        return {**record, "cost_usd": str(self.cost_usd), "answered_at": self.answered_at.isoformat()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Answer":
        """From the result store; KeyError, TypeError or ValueError for a record that is none of ours."""
        return cls(
            **{
                **record,
                "usage": Usage(**record["usage"]),
                "cost_usd": Decimal(record["cost_usd"]),
                "answered_at": datetime.fromisoformat(record["answered_at"]),
            }
        )

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off by max_tokens or the context window."""
        return self.stop_reason in TRUNCATED


@dataclass(frozen=True, slots=True)
class Received:
    """One answer off the wire, not priced yet."""

    text: str
    stop_reason: str | None
    model: str
    usage: Usage
    billed: bool


class ForeignAnswer(EndpointError):
    """A 200 whose body is no answer of the Messages API."""


def read_message(message: Any, base_url: str) -> Received:
    """Text, stop reason, model and usage; ForeignAnswer for HTML or another API's JSON under a 200."""
    if isinstance(message, str):
        start = " ".join(message.split())[:60]
        raise ForeignAnswer(
            f"{base_url} answers with a page, not with JSON ({start!r}). Check the endpoint's address and any login."
        )
    content, usage = getattr(message, "content", None), getattr(message, "usage", None)
    if not isinstance(content, list) or getattr(usage, "input_tokens", None) is None:
        raise ForeignAnswer(
            f"{base_url} answers with JSON that is not the Messages API's. Check that it is Anthropic-compatible."
        )
    # A refusal before the first word is free, although its usage is reported:
    # https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
    billed = bool(content) or message.stop_reason != "refusal"
    return Received(
        text="".join(block.text for block in content if block.type == "text"),  # thinking blocks may come first
        stop_reason=message.stop_reason,
        model=message.model or "",
        usage=usage_of(usage) if billed else Usage(),
        billed=billed,
    )


class FitsSchema(Protocol):
    """What judging needs of a schema."""

    def fit(self, text: str) -> Any:
        """The fitted value and the reasons why it does not fit."""


def judge(answer: Answer, schema: FitsSchema | None) -> tuple[str, str | None, str | None]:
    """(status, error code, reason): `ok`, `refused`, `truncated` or `invalid`."""
    if answer.stop_reason == "refusal":
        return "refused", "refusal", "The model declined to answer."
    if answer.truncated:
        return "truncated", answer.stop_reason, f"The answer was cut off at {answer.usage.output:,} tokens."
    if schema is not None:
        fitted = schema.fit(answer.text)
        if fitted.errors:
            return "invalid", "schema", "; ".join(fitted.errors)[:1000]
    return "ok", None, None


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
