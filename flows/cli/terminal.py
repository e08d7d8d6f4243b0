"""What a person sees in the terminal: one thought a line, true figures with their unit, bars while it goes on."""

import json
import logging
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from tasks.billing.pricing import cny, usd
from tasks.orchestration.context import RunContext
from tasks.orchestration.ending import ENDS
from tasks.orchestration.invoker import Todo
from tasks.orchestration.progress import beside, facts, pauses, progress_line, standing
from tasks.text import counted, dollars, duration, printable

LABEL = 9
EVERY_S = 0.2
PATIENCE_S = 1.0
LONG_S = 10.0  # without a call leaving: said, so that nobody takes the run for dead
LEAST_FIRST = ("in flight", "rate", "in batches", "failed", "retried", "left")
WIDE = 100  # columns; in fewer the bars are shorter, so that every figure fits in 80


class Terminal:
    """Lines and bars on stdout; with `bars` off, or where stdout is no terminal, only the lines."""

    def __init__(self, *, bars: bool = True, quiet: bool = False) -> None:
        self.quiet = quiet
        width = None if sys.stdout.isatty() else 10_000  # never fold a line that a program or a log reads
        self._folded = width is None
        self._console = Console(highlight=False, soft_wrap=True, width=width, file=sys.stderr if quiet else None)
        self._bars = bars and self._console.is_terminal
        self._lines = bars and not self._bars  # into a file or a pipe, a line now and then
        self._warned = self._told_of_wait = False
        logger = logging.getLogger("visionflow")
        logger.handlers = [_Notes(self)]
        logger.propagate = False

    def say(self, label: str, text: str) -> None:
        """One labelled line; a terminal shows it folded between words, a path whole however long."""
        text = printable(text)
        room = max(self._console.width - max(LABEL, len(label)) - 1, LABEL)
        lines = _folded(text, room) if self._folded else [text]
        self._console.print(f"[bold]{label:<{LABEL}}[/bold] ", Text(f"\n{'':{LABEL + 1}}".join(lines)), sep="")

    def note(self, text: str) -> None:
        """A line without a label."""
        self.say("", text)

    def waiting(self, what: str, wait: Callable[[], object]) -> None:
        """Wait, saying for what."""
        if self._bars:
            with self._console.status(f"Waiting for {what} ..."):
                wait()
        else:
            wait()

    @contextmanager
    def listing(self) -> Iterator[Callable[[int], None]]:
        """Say how many images were found so far, once that takes longer than a person waits without asking."""
        began, status = monotonic(), self._console.status("")

        def show(count: int) -> None:
            if self._bars and monotonic() - began > PATIENCE_S:
                status.update(f"[bold]{'Listing':<{LABEL}}[/bold] {counted(count, 'image')} ...")
                status.start()

        try:
            yield show
        finally:
            status.stop()

    @contextmanager
    def watch(self, run: RunContext, todo: Todo) -> Iterator[None]:
        """Say what is to be done, and show how it goes."""
        self.say("Kept", kept_line(todo))
        self.say("To ask", to_ask_line(run, todo))
        with beside(partial(self._follow, run, len(todo.images)), "terminal"):
            yield

    def _follow(self, run: RunContext, to_ask: int, finished: threading.Event) -> None:
        if self._bars and to_ask:
            self._draw(run, to_ask, finished)
            return
        pause = pauses()
        due = monotonic() + next(pause)
        while not finished.wait(EVERY_S):
            self._warn(run)
            if self._lines and monotonic() >= due:
                self.say("Asked", progress_line(standing(run, to_ask)))
                due = monotonic() + next(pause)

    def _draw(self, run: RunContext, to_ask: int, finished: threading.Event) -> None:
        width = 20 if self._console.width >= WIDE else 12
        room = self._console.width - LABEL - width - len(f"{to_ask:,}/{to_ask:,}") - 2  # and a space on each side
        with Progress(
            TextColumn(f"[bold]{{task.description:<{LABEL}}}"), BarColumn(width), _Facts(), console=self._console
        ) as progress:
            preparing = progress.add_task("Preparing", total=to_ask, facts="")
            asking = progress.add_task("Asking", total=to_ask, facts="")

            def update() -> None:
                now = standing(run, to_ask)
                progress.update(preparing, completed=now.prepared)
                progress.update(asking, completed=now.asked, total=now.to_ask, facts=fitting(facts(now), room))

            while not finished.wait(EVERY_S):
                update()
                self._warn(run)
            update()

    def _warn(self, run: RunContext) -> None:
        """Say once that the budget is nearly spent, and that the endpoint holds calls back for long."""
        if (wait := run.engine.waits) > LONG_S and not self._told_of_wait:
            self._told_of_wait = True
            self.say("Note", f"the endpoint's limits hold calls back: the next one leaves in {duration(round(wait))}.")
        if run.engine.nearly_spent and not self._warned:
            self._warned = True
            self.say("Note", "four fifths of the cap are used: the run will pause before it is passed.")

    def summary(self, summary: dict[str, Any]) -> None:
        """How it ended, what it cost, where everything is; with `--json` on stdout as well, all of it in one line."""
        self.say(ENDS[summary["status"]].label, done_line(summary))
        if summary["message"]:
            self.say("", summary["message"])
        if failed := failed_shards(summary):
            self.say("Shards", failed)
        if summary["read_twice"] or summary["needs_review"]:
            self.say("Review", review_line(summary))
        self.say("Cost", cost_line(summary))
        if summary["saved_usd"]:
            self.say("", f"{usd(summary['saved_usd'])} saved by kept answers and duplicates")
        if summary["calls_maybe_paid"]:
            self.say("", f"{summary['calls_maybe_paid']:,} of the calls may have been paid without an answer")
        self.say("Results", shortened(summary["results"]))
        self.say("Report", shortened(summary["report"]))
        if self.quiet:
            sys.stdout.write(json.dumps(summary) + "\n")

    def failures(self, failures: Sequence[dict[str, Any]], most: int = 5) -> None:
        """The first failed images, each with its reason; what a halted run did not ask about has all the same one."""
        failures = [row for row in failures if row["status"] != "unasked"]
        for row in failures[:most]:
            page = f" page {row['page']}" if row["page"] != 1 else ""
            self.say(row["status"].capitalize(), f"{row['name']}{page}: {row['error']}")
        if len(failures) > most:
            self.say("", "... and more: they are rows of the results whose status is not ok.")


class _Notes(logging.Handler):
    """Warnings, such as of a damaged record, as lines of their own."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.say("Note", record.getMessage())


class _Facts(ProgressColumn):
    """Figures beside a bar, on one line whatever the width."""

    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):,}/{int(task.total or 0):,}{task.fields['facts']}")


def fitting(told: dict[str, str], room: int) -> str:
    """As many of the figures as a line has room for; those that say least go first."""
    told = dict(told)
    for name in LEAST_FIRST:
        if sum(len(one) + 2 for one in told.values()) <= room:
            break
        told.pop(name, None)
    return "".join(f"  {one}" for one in told.values())


def _folded(text: str, width: int) -> list[str]:
    lead = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(text.lstrip(), width - len(lead), break_long_words=False, break_on_hyphens=False)
    return [lead + line for line in lines] or [text]


def kept_line(todo: Todo) -> str:
    """How many files were done before; answers to the bytes of the others show when they are read."""
    if todo.done_before:
        return f"{counted(todo.done_before, 'image')} done before"
    return "no file yet; answers to the same bytes are found as files are read"


def to_ask_line(run: RunContext, todo: Todo) -> str:
    """How many are left, of whom to ask, and the cap."""
    plan = run.plan
    if not todo.images:
        return "nothing"
    about = f", about {dollars(todo.estimate)}" if todo.estimate is not None else ""
    cap = f" (cap ${plan.job.max_cost:,})" if plan.job.max_cost is not None else ""
    doubtful = " where in doubt" if plan.job.verify_below is not None else ""
    twice = f", read twice{doubtful} ({plan.job.verify})" if plan.job.verify else ""
    return f"{counted(len(todo.images), 'image')} with {plan.job.model}{twice}{about}{cap}"


def done_line(summary: dict[str, Any]) -> str:
    """`in 31 s: 12,468 ok, 7 refused, 5 unreadable`."""
    statuses = ", ".join(f"{count:,} {status}" for status, count in summary["statuses"].items()) or "no images"
    pages = f"{summary['rows']:,} pages, " if summary["rows"] != summary["images"] else ""
    return f"in {duration(summary['seconds'])}: {pages}{statuses}"


def failed_shards(summary: dict[str, Any]) -> str:
    """Which shards of a fleet nobody could end, and how to go on."""
    shards = summary.get("shards", [])
    failed = [shard for shard in shards if shard["state"] == "failed"]
    if not failed or summary["message"]:
        return ""
    numbers, images = ", ".join(str(shard["shard"]) for shard in failed), sum(shard["images"] for shard in failed)
    return (
        f"{numbers} of {len(shards)} failed, with {images:,} images: {failed[0]['message']} "
        "The same command goes on with them."
    )


def review_line(summary: dict[str, Any]) -> str:
    """`12 of 480 good rows need review (needs_review); 480 were read twice`."""
    need = "needs" if summary["needs_review"] == 1 else "need"
    of = f"{summary['needs_review']:,} of {counted(summary['ok'], 'good row')} {need} review"
    return f"{of} (needs_review); {summary['read_twice']:,} were read twice"


def cost_line(summary: dict[str, Any]) -> str:
    """Dollars to their last digit, yuan, and whether any of it is real."""
    cost = f"{usd(summary['cost_usd'])} ({cny(summary['cost_cny'])}) for {counted(summary['calls'], 'call')}"
    if summary["simulated"]:
        cost += ", simulated: nothing was spent"
    return cost


def shortened(uri: str) -> str:
    """A path below the current folder as a person would type it."""
    path = Path(uri)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else uri
