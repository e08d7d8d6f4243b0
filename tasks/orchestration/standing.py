"""How far a run is: the figures that the terminal's bars and the lines in Prefect's log show."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

OPEN = ("unasked", "unavailable")  # nobody was asked, or the task may ask again


@dataclass(frozen=True)
class Standing:
    """A moment of a run."""

    prepared: int
    asked: int
    """Images with an outcome; what a run that ends does not ask about is not among them."""
    to_ask: int
    failed: int
    retried: int
    """Calls beyond the first for the same image."""
    in_flight: int
    per_second: float
    spent: Decimal
    cap: Decimal | None

    @property
    def seconds_left(self) -> float | None:
        """As things go; None where nothing is left, or nothing was asked yet."""
        left = self.to_ask - self.asked
        return left / self.per_second if left > 0 and self.per_second else None


def standing(run: "RunContext", to_ask: int) -> Standing:
    """How far the run is with the images that it had to ask about."""
    counts, recorder, ledger = run.engine.progress, run.recorder, run.recorder.ledger
    gave_up = recorder.statuses["unavailable"] + run.preparation.failed
    asked = counts.done - sum(counts.statuses[status] for status in OPEN) + gave_up
    good = counts.statuses["ok"]
    return Standing(
        prepared=min(run.preparation.done, to_ask),
        asked=min(asked, to_ask),
        to_ask=to_ask,
        failed=max(0, min(asked - good, to_ask)),
        retried=ledger.retried,
        in_flight=run.engine.in_flight,
        per_second=asked / recorder.seconds if recorder.seconds else 0.0,
        spent=ledger.total_usd,
        cap=run.engine.settings.max_cost,
    )
