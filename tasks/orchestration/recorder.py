"""The recorder: every row of a run passes here, into the tables, the counters and the bill."""

import logging
from collections import Counter
from datetime import datetime
from time import monotonic
from typing import Any

from config.settings import home
from tasks.asking.calls import CallLedger
from tasks.asking.halting import Halt
from tasks.billing.bill import Bill
from tasks.orchestration.answer_columns import AnswerColumns
from tasks.orchestration.ending import status_of
from tasks.orchestration.summary import run_row, summary_of
from tasks.planning.plan import Plan
from tasks.recording.memory import give_back
from tasks.recording.reviews import Reviews
from tasks.recording.rows import Row, is_open, typed
from tasks.recording.writer import TableFile, TableWriter, write_table_file
from tasks.storage.output import explain_storage

log = logging.getLogger("visionflow")

FAILURES_SHOWN = 1000  # in the terminal and in Prefect's UI; the table has all


class Recorder:
    """Writes a run's tables part by part, and counts. For the flow's thread; counters may be read from any."""

    def __init__(self, plan: Plan, ledger: CallLedger, started_at: datetime) -> None:
        self.started_at = started_at
        self.ledger = ledger
        self.journal = ledger.journal
        self.bill = Bill(plan.endpoint.prices, tier="batch" if plan.job.mode == "batch" else "standard")
        self.statuses: Counter[str] = Counter()
        self.cached = self.duplicates = self.rows = self.images = 0
        self.read_once = 0  # rows whose second reading is still to come
        self.failures: list[Row] = []
        self.reviews = Reviews()
        self._plan = plan
        self._answers = AnswerColumns(plan.schema, verified=bool(plan.second)) if plan.schema else None
        self._clock = monotonic()
        self._results = self._writer("results", result_type=plan.schema.arrow if plan.schema else None)
        self._calls = self._writer("calls")

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self._clock

    def record(self, rows: list[Row]) -> None:
        """Write finished rows, and the calls made meanwhile, as soon as a part is full. Raises OutputError."""
        for row in rows:
            self._count(row)
        self.rows += len(rows)
        self.bill.add_rows(rows)
        typed_rows = [typed(row, self._answers) for row in rows]
        self.reviews.add(typed_rows)
        self._results.add(typed_rows)
        self.record_calls(self.ledger.drain())

    def record_calls(self, calls: list[Row]) -> None:
        """Write rows of the ledger, and bill them."""
        self.bill.add_calls(calls)
        self._calls.add(calls)

    def close(self) -> None:
        """Write what is left of rows and calls."""
        self.record_calls(self.ledger.drain())
        self._results.close()
        self._calls.close()
        give_back()  # what asking took, before the report is made

    def finish(self, halt: Halt | None, batches: tuple[int, int] = (0, 0)) -> dict[str, Any]:
        """Write the bill and the run's own row; the summary that `--json` prints.

        `batches` is how many Message Batches there were, and how many requests in them.
        """
        plan = self._plan
        costs = self.bill.rows(cny_per_usd=plan.cny_per_usd, simulated=plan.simulated)
        self._write("costs", "costs.parquet", costs)
        row = run_row(plan, self, self.status(halt), halt)
        row["batches"], row["batch_requests"] = batches
        self._write("runs", "run.parquet", [row])
        return summary_of(plan.output, row, costs, self.reviews)

    def status(self, halt: Halt | None) -> str:
        """The run's status, as things stand."""
        return status_of(halt, self.statuses, read_once=self.read_once)

    def let_go(self, store: Any) -> None:
        """The journal has served once all that it vouches for is durable elsewhere; else a later run takes it in."""
        try:
            store.sync()
        except OSError as error:
            log.warning("%s A later run makes sure of it.", explain_storage(error, str(home()), "write"))
            self.journal.needed = True

    def _count(self, row: Row) -> None:
        self.statuses[row["status"]] += 1
        self.read_once += row["status"] == "ok" and is_open(row)
        self.cached += bool(row["cached"])
        self.duplicates += bool(row.get("duplicate_of"))
        self.images += row["page"] == 1
        if row["status"] != "ok" and len(self.failures) < FAILURES_SHOWN:
            self.failures.append({name: row.get(name) for name in ("name", "page", "status", "error_code", "error")})

    def _write(self, table: str, name: str, rows: list[Row]) -> None:
        write_table_file(TableFile(self._plan.output, table, self._plan.name, self._plan.run_id, name), rows)

    def _writer(self, table: str, **options: Any) -> TableWriter:
        return TableWriter(self._plan.output, table, self._plan.name, self._plan.run_id, **options)
