"""Following a run: a thread beside it, the figures that bars and lines show, and the lines in Prefect's log.

The log has no line for each image: a line is a row in the server's database, and a run may have a million images.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, repeat
from typing import TYPE_CHECKING

from tasks.text import counted, dollars, duration, printable

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

# Seconds between lines: six in the first minute, then one a minute, 600 in ten hours.
PACE_S: Sequence[float] = (10.0,) * 6
THEN_S = 60.0

OPEN = ("unasked", "unavailable")  # nobody was asked, or the task may ask again

LOGGED_FAILURES = 5


@contextmanager
def beside(work: Callable[[threading.Event], None], name: str, *, patience: float | None = None) -> Iterator[None]:
    """Within, `work` runs in a thread of this context; its event tells it to end, and then it is waited for.

    `patience` is in seconds; None waits until it has ended, 0 not at all.
    """
    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(work, ended), name=f"visionflow-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience)


@dataclass(frozen=True)
class Standing:
    """A moment of a run."""

    prepared: int
    asked: int
    """Pages with an outcome; what a run that ends does not ask about is not among them."""
    to_ask: int
    """Pages, as far as they are known: a file that was not opened yet counts as one."""
    failed: int
    retried: int
    """Calls beyond the first for the same image."""
    in_flight: int
    per_second: float
    spent: Decimal
    cap: Decimal | None
    unit: str = "image"
    """`page` once a file had several."""
    in_batches: int = 0
    """Requests in Message Batches that run."""

    @property
    def seconds_left(self) -> float | None:
        """As things go; None where nothing is left, or nothing was asked yet."""
        left = self.to_ask - self.asked
        return left / self.per_second if left > 0 and self.per_second else None


def standing(run: "RunContext", to_ask: int) -> Standing:
    """How far the run is with the images that it had to ask about."""
    more = max(0, run.prepare_counts.pages - run.prepare_counts.done)
    pages = to_ask + more
    counts, recorder, ledger = run.engine.progress, run.recorder, run.recorder.ledger
    gave_up = recorder.statuses["unavailable"] + run.prepare_counts.failed
    asked = counts.done - sum(counts.statuses[status] for status in OPEN) + gave_up
    good = counts.statuses["ok"]
    return Standing(
        prepared=min(run.prepare_counts.done, to_ask),
        asked=min(asked, pages),
        to_ask=pages,
        failed=max(0, min(asked - good, pages)),
        retried=ledger.retried,
        in_flight=run.engine.in_flight,
        per_second=asked / recorder.seconds if recorder.seconds else 0.0,
        spent=ledger.total_usd,
        cap=run.engine.settings.max_cost,
        unit="page" if more else "image",
        in_batches=run.engine.batches.in_flight if run.engine.batches else 0,
    )


def pauses() -> Iterator[float]:
    """Seconds until each next line, for as long as the run goes on."""
    return chain(PACE_S, repeat(THEN_S))


def facts(now: Standing) -> dict[str, str]:
    """Its figures in the order in which they are read; those that say nothing are left out."""
    spent = f"${now.spent:.4f}" if now.spent < 1 else f"${now.spent:,.2f}"
    told = {
        "in batches": f"{now.in_batches:,} in batches" if now.in_batches else "",
        "in flight": f"{now.in_flight:,} in flight" if now.in_flight or not now.in_batches else "",
        "rate": f"{now.per_second:.1f}/s",
        "spent": spent + (f" of {dollars(now.cap)}" if now.cap is not None else ""),
        "failed": f"{now.failed:,} failed" if now.failed else "",
        "retried": f"{now.retried:,} retried" if now.retried else "",
        "left": f"{duration(round(now.seconds_left))} left" if now.seconds_left is not None else "",
    }
    return {name: one for name, one in told.items() if one}


def progress_line(now: Standing) -> str:
    """`241 of 368 images, 16.2/s, $0.1200 of $5.00, 3 failed, 12 retried, 8 s left`."""
    told = [one for name, one in facts(now).items() if name != "in flight"]
    return ", ".join([f"{now.asked:,} of {counted(now.to_ask, now.unit)}", *told])


@contextmanager
def logged_progress(run: "RunContext", to_ask: int) -> Iterator[None]:
    """Within, the flow's log has a line now and then."""
    from prefect import get_run_logger

    log = get_run_logger()

    def follow(finished: threading.Event) -> None:
        for pause in pauses():
            if finished.wait(pause):
                return
            log.info("Asked %s", progress_line(standing(run, to_ask)))

    with beside(follow, "log"):
        yield


def log_end(run: "RunContext", report: str) -> None:
    """The first failed rows with their reasons, and where the report is. How it ended, Prefect's own line says."""
    from prefect import get_run_logger

    log = get_run_logger()
    failures = [row for row in run.recorder.failures if row["status"] != "unasked"]
    for row in failures[:LOGGED_FAILURES]:
        log.warning("%s", printable(f"{row['status'].capitalize()} {row['name']}: {row['error']}"))
    if len(failures) > LOGGED_FAILURES:
        log.warning("... and more: the artifact of failures and the results have them.")
    log.info("Report: %s", printable(report))
