"""The recorder: every row of a run passes here, gets its typed columns, and goes into tables, counters and bill."""

import ctypes
import gc
import logging
from collections import Counter
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from config.settings import home
from tasks.asking.calls import CallLedger
from tasks.asking.halting import Halt
from tasks.asking.pages import AnswerStore
from tasks.billing.bill import TOKENS, Bill, in_yuan
from tasks.orchestration.ending import status_of
from tasks.orchestration.summary import COUNTS, Figures, about, summary_of, together
from tasks.planning.plan import Plan
from tasks.recording.reading_back import counted_reviews
from tasks.recording.rows import Reviews, Row, typed
from tasks.recording.tables import STATUSES
from tasks.recording.writer import TableFile, TableWriter, run_folder, write_table_file
from tasks.scoring.answer_columns import AnswerColumns
from tasks.storage.output import explain_storage, sound_parts

if TYPE_CHECKING:
    from tasks.orchestration.fleet.reports import Report

log = logging.getLogger("visionflow")

MANY_ROWS = 10_000  # of fewer, asking took too little memory to be worth the 0.2 s of looking through all objects


class Recorder:
    """Writes a run's tables part by part, and counts. For the flow's thread; counters may be read from any."""

    def __init__(self, plan: Plan, ledger: CallLedger, started_at: datetime) -> None:
        self.started_at = started_at
        self.ledger = ledger
        self.journal = ledger.journal
        self.bill = Bill(plan.endpoint.prices, tier="batch" if plan.job.mode == "batch" else "standard")
        self.own = Figures()
        self.shards: dict[int, Report] = {}  # the last one of each shard of a fleet
        self.shard_lines: list[dict[str, Any]] = []  # how each of them ended
        self.reviews = Reviews()
        self._plan = plan
        self._answers = AnswerColumns(plan.schema, plan.job) if plan.schema else None
        self._clock = monotonic()
        self._results = self._writer("results", result_type=plan.schema.arrow if plan.schema else None)
        self._calls = self._writer("calls")

    @property
    def figures(self) -> Figures:
        """What was counted, by the shards of a fleet too."""
        return together([self.own, *(report.figures for report in self.shards.values())]) if self.shards else self.own

    @property
    def statuses(self) -> Counter[str]:
        """How many rows have which status."""
        return self.figures.statuses

    @property
    def rows(self) -> int:
        """Rows there are."""
        return self.figures.counts["rows"]

    @property
    def images(self) -> int:
        """Files whose rows there are."""
        return self.figures.counts["images"]

    @property
    def failures(self) -> list[Row]:
        """The first rows that are not ok."""
        return self.figures.failures

    @property
    def parts(self) -> int:
        """Parts of `results` that this process has written."""
        return self._results.parts

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self._clock

    def record(self, rows: list[Row]) -> None:
        """Write finished rows, and the calls made meanwhile, as soon as a part is full. Raises OutputError."""
        for row in rows:
            self.own.add(row)
        self.bill.add_rows(rows)
        typed_rows = [typed(row, self._answers) for row in rows]
        self.reviews.add(typed_rows)
        self._results.add(typed_rows)
        self.record_calls(self.ledger.drain())

    def record_calls(self, calls: list[Row]) -> None:
        """Write rows of the ledger, and bill them."""
        self.bill.add_calls(calls)
        self._calls.add(calls)
        self.journal.recorded(self._calls.rows - self._calls.waiting)

    def flush(self) -> None:
        """Write all that there is by now."""
        self.record_calls(self.ledger.drain())
        self._results.flush()
        self._calls.flush()

    def close(self) -> None:
        """Write what is left of rows and calls."""
        self.record_calls(self.ledger.drain())
        self._results.close()
        self._calls.close()
        if self.rows > MANY_ROWS:
            _give_back()  # what asking took, before the report is made

    def finish(self, halt: Halt | None, batches: tuple[int, int] = (0, 0)) -> dict[str, Any]:
        """Write the bill and the run's own row; the summary that `--json` prints.

        `batches` is how many Message Batches there were, and how many requests in them.
        """
        plan = self._plan
        if self.shards:
            self.bill = self._bill_of_all()
            self.reviews = counted_reviews(plan.output, run_folder("results", plan.name, plan.run_id))
        costs = self.bill.rows(cny_per_usd=plan.cny_per_usd, simulated=plan.simulated)
        self._write("costs", "costs.parquet", costs)
        row = self._run_row(halt, batches)
        self._write("runs", "run.parquet", [row])
        summary = summary_of(plan.output, row, costs, self.reviews)
        return {**summary, "shards": self.shard_lines} if self.shard_lines else summary

    def status(self, halt: Halt | None) -> str:
        """The run's status, as things stand."""
        return status_of(halt, self.statuses, read_once=self.figures.counts["read_once"])

    def settle_journal(self, store: AnswerStore) -> None:
        """The journal has served once all that it vouches for is durable elsewhere; else a later run takes it in."""
        try:
            store.sync()
        except OSError as error:
            log.warning("%s A later run makes sure of it.", explain_storage(error, str(home()), "write"))
            self.journal.needed = True

    def _bill_of_all(self) -> Bill:
        """The bill over what all processes of a fleet have written: also those that died have paid."""
        plan, bill = self._plan, Bill(self._plan.endpoint.prices)
        for counted in (self.bill.of_rows, *(report.bill for report in self.shards.values())):
            bill.add_rows_of(counted)
        for part in sound_parts(plan.output, run_folder("calls", plan.name, plan.run_id)):
            bill.add_calls(part.to_pylist())
        return bill

    def _run_row(self, halt: Halt | None, batches: tuple[int, int]) -> Row:
        """The run's row in `runs`: how it ended, what it counted and cost, the job as it was run, and the versions."""
        plan, bill, figures, status = self._plan, self.bill, self.figures, self.status(halt)
        described = about(plan, self.started_at)
        return {
            "run_id": plan.run_id,
            "job": plan.name,
            "status": status,
            "message": halt.message if halt and status == halt.kind else None,
            **{name: described[name] for name in ("source", "settings", "simulated", "versions")},
            "output": plan.output.uri,
            "started_at": self.started_at,
            "finished_at": datetime.now(UTC),
            "seconds": round(self.seconds, 3),
            **{name: figures.counts[name] for name in COUNTS},
            **{status: figures.statuses[status] for status in STATUSES},
            **{name: bill.total(name) for name in ("calls", *TOKENS)},
            "batches": batches[0],
            "batch_requests": batches[1],
            "cost_usd": bill.cost_usd,
            "cost_cny": in_yuan(bill.cost_usd, plan.cny_per_usd),
        }

    def _write(self, table: str, name: str, rows: list[Row]) -> None:
        write_table_file(TableFile(self._plan.output, table, self._plan.name, self._plan.run_id, name), rows)

    def _writer(self, table: str, **options: Any) -> TableWriter:
        part = f"{self._plan.part.tag}-" if self._plan.part else ""
        return TableWriter(self._plan.output, table, self._plan.name, self._plan.run_id, part=part, **options)


def _give_back() -> None:
    """Collect garbage, and let the C library return the pages that are free (glibc; elsewhere nothing is done)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
