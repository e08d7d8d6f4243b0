"""The ledger: one row for every call, written before it leaves and completed when it has ended."""

import itertools
import threading
from contextlib import suppress
from decimal import Decimal
from time import monotonic
from typing import Any, Protocol

from tasks.asking.answer import Answer, utc_now
from tasks.asking.failures import Failure
from tasks.asking.pages import Page
from tasks.asking.question import Step
from tasks.errors import OutputError


class Journal(Protocol):
    """Where calls are noted before they leave (tasks/asking/journal.py, shared_journal.py)."""

    name: str
    trouble: OutputError | None
    """Why no further call may leave."""
    needed: bool
    """By a later run, although every call is in the tables."""

    def sent(self, call: dict[str, Any]) -> None:
        """A call is about to leave.

        OutputError if that cannot be written down, or an earlier line could not be.
        """

    async def may_leave(self) -> None:
        """Wait until calls that were noted may leave. OutputError if they may not."""

    def ended(self, call: dict[str, Any], answer: tuple[str, dict[str, Any]] | None = None) -> bytes:
        """The call ended, well or badly: its row, and the answer with its key where it has to be kept here.

        The line, for `durable`. OutputError if it can be written nowhere.
        """

    async def durable(self, line: bytes) -> None:
        """Wait until a line survives a power loss. OutputError if it does so nowhere."""

    def recorded(self, calls: int) -> None:
        """So many calls are in a table, those first that ended first."""

    def forget(self) -> None:
        """Every call is in the tables and every answer is kept: the journal has served."""

    def close(self) -> None:
        """Keep the journal for the next run, since not everything was recorded."""


class CallLedger:
    """Rows of the `calls` table as calls end; filled on the engine's thread, drained by another."""

    def __init__(self, journal: Journal, *, endpoint: str, preset: str, first: int = 1) -> None:
        self.total_usd = Decimal(0)
        self.retried = 0
        self.journal = journal
        self._fixed = {"endpoint": endpoint, "preset": preset}
        self._numbers = itertools.count(first)
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    async def open(self, page: Page, step: Step, *, attempt: int, worst: Decimal) -> "OpenCall":
        """Note that a call is about to leave, and its worst case; OutputError if that cannot be written down."""
        about = {
            "image": page.uri,
            "page": page.image.page,
            "sent_sha256": page.image.sha256,
            "attempt": attempt,
            "step": step.number,
            "model": step.question.model,
            "max_tokens": step.question.max_tokens,
            "at_most_usd": worst,
            "started_at": utc_now(),
        }
        row = self._row(about, tier="standard")
        self.journal.sent(row)
        await self.journal.may_leave()
        return OpenCall(self, row)

    def batched(self, about: dict[str, Any]) -> "OpenCall":
        """A request that was sent in a Message Batch, perhaps by another run, and has an end.

        Nothing was noted in the journal as it was sent: were this run to die, the batch would go on all the same.
        """
        return OpenCall(self, self._row(about, tier="batch"))

    def _row(self, about: dict[str, Any], *, tier: str) -> dict[str, Any]:
        return {"call": next(self._numbers), **about, **self._fixed, "tier": tier}

    def end(self, row: dict[str, Any], record: tuple[str, dict[str, Any]] | None = None) -> bytes:
        """Note how a call ended, with its answer where that is to be kept so; OutputError if it cannot be noted."""
        with self._lock:
            self._rows.append(row)
            self.retried += row["attempt"] > 1
            self.total_usd += row["cost_usd"]
        return self.journal.ended(row, record)

    def drain(self) -> list[dict[str, Any]]:
        """Rows since the last drain."""
        with self._lock:
            rows, self._rows = self._rows, []
        return rows


def answered_columns(answer: Answer) -> dict[str, Any]:
    """What its answer says of a call."""
    usage, unknown = answer.usage, answer.unknown_usage
    refused = answer.stop_reason == "refusal"
    return {
        "outcome": "refused" if refused else "truncated" if answer.truncated else "answered",
        "paid": answer.paid,
        "http_status": 200,
        "model_answered": answer.model,
        "stop_reason": answer.stop_reason,
        **answer.tokens,
        "thinking_tokens": None if unknown else usage.thinking,
        "cache_write_5m_tokens": None if unknown else usage.cache_write_5m,
        "cache_write_1h_tokens": None if unknown else usage.cache_write_1h,
        "inference_geo": usage.geo,
        "cost_usd": answer.cost_usd,
        "latency_ms": answer.latency_ms,
        "request_id": answer.request_id,
    }


class OpenCall:
    """A call under way."""

    def __init__(self, ledger: CallLedger, row: dict[str, Any]) -> None:
        self._ledger = ledger
        self._row = row
        self._started = monotonic()

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the call left."""
        return round((monotonic() - self._started) * 1000)

    async def durable(self, line: bytes) -> None:
        """Wait until the call's end survives a power loss. Raises OutputError."""
        await self._ledger.journal.durable(line)

    def only_in_journal(self) -> None:
        """The answer could be kept nowhere else: a later run takes it from there."""
        self._ledger.journal.needed = True

    def answered(
        self, answer: Answer, *, error: str | None = None, record: tuple[str, dict[str, Any]] | None = None
    ) -> bytes:
        """The endpoint answered; `error` says what of it was wrong. OutputError if it cannot be noted."""
        return self._end(record, **answered_columns(answer), error=error)

    def failed(self, failure: Failure) -> None:
        """No answer, or none that could be read."""
        with suppress(OutputError):  # the row is in the table all the same, and the next call stops the run
            self._end(
                None,
                outcome=failure.outcome,
                paid=failure.paid,
                http_status=failure.status,
                error_type=failure.error_type,
                error=failure.message,
                retry_after_s=failure.retry_after,
                cost_usd=Decimal(0),
                latency_ms=self.elapsed_ms,
                request_id=failure.request_id,
            )

    def _end(self, record: tuple[str, dict[str, Any]] | None, **columns: Any) -> bytes:
        if columns["paid"] != "maybe":  # then it is known what it cost
            columns["at_most_usd"] = None
        return self._ledger.end({**self._row, **columns}, record)
