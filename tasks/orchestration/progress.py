"""What a run says of itself in Prefect's log: how far it is, at a steady pace, and at the end where to look.

Not for each image: a line is a row in the server's database, and a run may have a million images.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from itertools import chain, repeat

from prefect import get_run_logger

from tasks.orchestration.context import RunContext
from tasks.orchestration.standing import Standing, standing
from tasks.text import counted, duration, printable

# Seconds between lines: six in the first minute, then one a minute, 600 in ten hours.
PACE_S: Sequence[float] = (10.0,) * 6
THEN_S = 60.0
MOST_FAILURES = 5


@contextmanager
def logged_progress(run: RunContext, to_ask: int) -> Iterator[None]:
    """Within, the flow's log has a line now and then."""
    log, finished = get_run_logger(), threading.Event()

    def follow() -> None:
        for pause in chain(PACE_S, repeat(THEN_S)):
            if finished.wait(pause):
                return
            log.info(progress_line(standing(run, to_ask)))

    thread = threading.Thread(target=copy_context().run, args=(follow,), name="visionflow-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def progress_line(now: Standing) -> str:
    """`Asked 241 of 368 images, 16.2/s, $0.1200 of $5.00, 3 failed, 12 retried, 8 s left`."""
    said = [f"Asked {now.asked:,} of {counted(now.to_ask, 'image')}", f"{now.per_second:.1f}/s"]
    said.append(f"${now.spent:.4f}" + (f" of ${now.cap:,.2f}" if now.cap is not None else ""))
    said += [f"{now.failed:,} failed"] if now.failed else []
    said += [f"{now.retried:,} retried"] if now.retried else []
    said += [f"{duration(round(now.seconds_left))} left"] if now.seconds_left is not None else []
    return ", ".join(said)


def tell_end(run: RunContext, report: str) -> None:
    """The first failed rows with their reasons, and where the report is. How it ended, Prefect's own line says."""
    log = get_run_logger()
    failures = [row for row in run.recorder.failures if row["status"] != "unasked"]
    for row in failures[:MOST_FAILURES]:
        log.warning("%s", printable(f"{row['status'].capitalize()} {row['name']}: {row['error']}"))
    if len(failures) > MOST_FAILURES:
        log.warning("... and more: the artifact of failures and the results have them.")
    log.info("Report: %s", printable(report))
