"""What a run says of itself in Prefect's log: how far it is, at a steady pace, and at the end where to look.

Not for each image: a line is a row in the server's database, and a run may have a million images.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from tasks.orchestration.beside import beside
from tasks.orchestration.context import RunContext
from tasks.orchestration.standing import pauses, progress_line, standing
from tasks.text import printable

MOST_FAILURES = 5


@contextmanager
def logged_progress(run: RunContext, to_ask: int) -> Iterator[None]:
    """Within, the flow's log has a line now and then."""
    log = get_run_logger()

    def follow(finished: threading.Event) -> None:
        for pause in pauses():
            if finished.wait(pause):
                return
            log.info("Asked %s", progress_line(standing(run, to_ask)))

    with beside(follow, "log"):
        yield


def tell_end(run: RunContext, report: str) -> None:
    """The first failed rows with their reasons, and where the report is. How it ended, Prefect's own line says."""
    log = get_run_logger()
    failures = [row for row in run.recorder.failures if row["status"] != "unasked"]
    for row in failures[:MOST_FAILURES]:
        log.warning("%s", printable(f"{row['status'].capitalize()} {row['name']}: {row['error']}"))
    if len(failures) > MOST_FAILURES:
        log.warning("... and more: the artifact of failures and the results have them.")
    log.info("Report: %s", printable(report))
