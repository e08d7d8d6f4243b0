"""The run context: what every step of a run works with. What changes while a run goes on has a part of its own.

Knows nothing of Prefect.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tasks.asking.calls import Journal
from tasks.asking.engine import Engine
from tasks.asking.halting import Halt
from tasks.asking.pages import AnswerStore
from tasks.orchestration.recorder import Recorder
from tasks.planning.plan import Plan
from tasks.preparing.threads import PrepareCounts, PrepareThreads
from tasks.recording.rows import Row, unavailable_row
from tasks.types import Source


class RunStore(AnswerStore, Protocol):
    """Where a run keeps its answers, and the rows of finished chunks."""

    def keep_finished(self, chunk_key: str, rows: list[Row], *, whole: bool) -> None:
        """Keep the rows of a finished chunk, or those of the finished files of one that is not."""

    async def look_again(self) -> None:
        """Take in what other machines have kept meanwhile. The storage's own error."""

    def finished(self, prefix: str) -> Iterator[list[Row]]:
        """Rows of each finished chunk under the prefix. Raises OutputError."""


@dataclass(frozen=True, eq=False)
class RunContext:
    """One run: its plan, and what it prepares, asks and records with."""

    plan: Plan
    store: RunStore
    engine: Engine
    prepare_threads: PrepareThreads
    prepare_counts: PrepareCounts
    recorder: Recorder

    @property
    def halt(self) -> Halt | None:
        """Why no more calls are made, if so."""
        return self.engine.halt

    def stop(self, halt: Halt) -> None:
        """Make no more calls."""
        self.engine.stop(halt)

    @contextmanager
    def at_work(self) -> Iterator["RunContext"]:
        """Start the engine; whatever happens, keep what was received and write down what was paid."""
        with handing_on(self.recorder.journal):
            with self.engine, self.prepare_threads:
                yield self
            self.recorder.close()

    def finish(self) -> dict[str, Any]:
        """Write the bill and the run's own row; the summary that `--json` prints."""
        with handing_on(self.recorder.journal):
            batches = self.engine.batches
            summary = self.recorder.finish(self.halt, (batches.count, batches.requests) if batches else (0, 0))
        self.recorder.settle_journal(self.store)
        self.engine.recorded()
        return summary

    def unasked_row(self, source: Source) -> Row:
        """The row of a file that the run ended before asking about."""
        halt = self.halt
        row = unavailable_row(source, self.plan.question, self.plan.preset.name, halt.message if halt else "")
        return {**row, "status": "unasked", "error_code": halt.kind if halt else None}

    def broken_row(self, source: Source, error: object) -> Row:
        """The row of a file whose task failed in a way that nobody foresaw; a later run tries again."""
        reason = f"The task failed ({type(error).__name__}: {str(error)[:200]})."
        return {**unavailable_row(source, self.plan.question, self.plan.preset.name, reason), "error_code": "internal"}


@contextmanager
def handing_on(journal: Journal) -> Iterator[None]:
    """Whatever goes wrong within, leave the journal to a later run, also of this process."""
    try:
        yield
    except BaseException:
        journal.close()
        raise
