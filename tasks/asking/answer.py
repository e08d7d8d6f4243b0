"""An answer as it is kept, and whether it is what was asked for."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from types import NoneType
from typing import Any, Protocol

from tasks.billing.pricing import NANO_USD
from tasks.billing.usage import Malformed, Usage, kind_of

TRUNCATED = ("max_tokens", "model_context_window_exceeded")
PAID = ("yes", "no", "maybe")
MOST_USD = Decimal(1_000_000)  # for one call: what says more is no price
MOST = 1_000_000_000  # milliseconds, tokens
RECORD_TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "stop_reason": (str, NoneType),
    "model": str,
    "request_id": (str, NoneType),
    "usage": dict,
    "cost_usd": str,
    "max_tokens": int,
    "latency_ms": int,
    "answered_at": str,
    "run_id": str,
    "image": str,
}


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
    paid: str = "yes"  # as in the table `calls`; `maybe` where nobody knows its price

    def to_record(self) -> dict[str, Any]:
        """As JSON for the result store."""
        # dataclasses.asdict would copy deeply, at ten times the CPU.
        record = {name: getattr(self, name) for name in self.__slots__}
        record["usage"] = {name: getattr(self.usage, name) for name in self.usage.__slots__}
        return {**record, "cost_usd": str(self.cost_usd), "answered_at": self.answered_at.isoformat()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Answer":
        """From the result store; KeyError, TypeError or ValueError for a record that is none of ours.

        Neither is one whose figures cannot be true: such ones were kept by the first release.
        """
        values = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        for name, kinds in RECORD_TYPES.items():
            if not isinstance(values.get(name), kinds) or isinstance(values.get(name), bool):
                raise Malformed(f"{name} of a kept answer is {kind_of(values.get(name))}")
        cost, answered_at = _dollars(record["cost_usd"]), datetime.fromisoformat(record["answered_at"])
        if not (0 <= values["latency_ms"] <= MOST and 0 <= values["max_tokens"] <= MOST):
            raise Malformed("a kept answer whose figures cannot be true")
        if values.setdefault("paid", "yes") not in PAID or answered_at.tzinfo is None:
            raise Malformed("a kept answer of another version")
        usage = Usage.from_record(record["usage"])
        return cls(**{**values, "usage": usage, "cost_usd": cost, "answered_at": answered_at})

    @property
    def tokens(self) -> dict[str, int | None]:
        """Its usage as the tables have it: empty where the endpoint's figures could not be true."""
        usage = self.usage
        counts = {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        }
        return dict.fromkeys(counts) if self.unknown_usage else {**counts}

    @property
    def unknown_usage(self) -> bool:
        """Whether nobody knows what it cost, because the endpoint's figures could not be true."""
        return self.paid == "maybe" and self.usage == Usage()

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off by max_tokens or the context window."""
        return self.stop_reason in TRUNCATED


def _dollars(text: str) -> Decimal:
    """An amount that a table takes; ValueError for any other."""
    try:
        amount = Decimal(text)
        if 0 <= amount <= MOST_USD and amount == amount.quantize(NANO_USD):
            return amount
    except ArithmeticError:  # no number, or one that compares with nothing
        pass
    raise Malformed("the price of a kept answer cannot be true")


class FitsSchema(Protocol):
    """What judging needs of a schema."""

    def fit(self, text: str) -> Any:
        """The fitted value and the reasons why it does not fit."""


def judge(answer: Answer, schema: FitsSchema | None) -> tuple[str, str | None, str | None]:
    """(status, error code, reason): `ok`, `refused`, `truncated` or `invalid`."""
    if answer.stop_reason == "refusal":
        return "refused", "refusal", "The model declined to answer."
    if answer.truncated:
        room = answer.max_tokens if answer.unknown_usage else answer.usage.output
        return "truncated", answer.stop_reason, f"The answer was cut off at {room:,} tokens."
    if not answer.text.strip():
        return "invalid", "empty", "The answer holds no text."
    if schema is not None:
        fitted = schema.fit(answer.text)
        if fitted.errors:
            return "invalid", fitted.code, "; ".join(fitted.errors)[:1000]
    return "ok", None, None


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
