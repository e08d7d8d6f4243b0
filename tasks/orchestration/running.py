"""A run under way: its engine, its tables, its counters. Knows nothing of Prefect."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic
from typing import Any

from config.settings import home
from tasks.asking.calls import CallLedger
from tasks.asking.claims import Claims, S3Claims
from tasks.asking.engine import Engine
from tasks.asking.halting import Halt
from tasks.asking.journal import Journal
from tasks.asking.pages import EngineSettings
from tasks.billing.bill import Bill, spent_by_attempts, spent_today
from tasks.orchestration.summary import about, run_row, summary_of
from tasks.orchestration.turn import lease_uri
from tasks.planning.plan import Plan
from tasks.preparing.preparers import Preparation, Preparers
from tasks.recording.memory import give_back
from tasks.recording.recovery import recover
from tasks.recording.rows import Row, RowTransform, typed, unavailable_row
from tasks.recording.writer import TableFile, TableWriter, write_table_file
from tasks.storage.output import explain_storage
from tasks.storage.ranges import RangeLocks
from tasks.storage.records import FOLDER
from tasks.storage.s3 import is_s3
from tasks.types import ImageRules, Source

log = logging.getLogger("visionflow")

FAILURES_SHOWN = 1000  # in the terminal and in Prefect's UI; the table has all


class Run:
    """One run from its first row to its summary."""

    def __init__(self, plan: Plan, store: Any) -> None:
        self.plan = plan
        self.store = store
        self.summary: dict[str, Any] | None = None
        self.failures: list[Row] = []
        self.listed = threading.Event()
        self.started_at = datetime.now(UTC)
        self.finished = threading.Event()
        self.written = threading.Event()  # every table, and the report
        self.statuses: Counter[str] = Counter()
        self.cached = self.duplicates = self.rows = self.images = 0
        self.to_ask = len(plan.listing.images)
        self.preparation = Preparation()
        self.preparers = Preparers(on_s3=plan.listing.images.on_s3)
        self.estimate: Decimal | None = None
        self.bill = Bill(plan.endpoint.prices)
        self._clock = monotonic()
        schema = plan.schema
        self._results = self._writer("results", result_type=schema.arrow if schema else None)
        self._calls = self._writer("calls")
        self.journal = Journal(plan.output.uri, plan.name, plan.run_id, about(plan, self.started_at))
        self.ledger = CallLedger(self.journal, endpoint=plan.endpoint.identity, preset=plan.preset.name)
        with self._handing_on():
            self._take_in_dead_runs()  # before the engine, whose cap for the day counts what they paid
            self.engine = Engine(engine_settings(plan), store, self.ledger, claims_of(plan))

    @property
    def rules(self) -> ImageRules:
        """What images must be."""
        return self.plan.rules

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self._clock

    @contextmanager
    def open(self) -> Iterator["Run"]:
        """Start the engine; whatever happens, keep what was received and write down what was paid."""
        with self._handing_on():
            with self.engine, self.preparers:
                try:
                    yield self
                finally:
                    self.finished.set()
            self._close_tables()

    def record(self, rows: list[Row]) -> None:
        """Write finished rows, and the calls made meanwhile, as soon as a part is full."""
        for row in rows:
            self.statuses[row["status"]] += 1
            self.cached += bool(row["cached"])
            self.duplicates += bool(row.get("duplicate_of"))
            self.images += row["page"] == 1
            if row["status"] != "ok" and len(self.failures) < FAILURES_SHOWN:
                self.failures.append(
                    {name: row.get(name) for name in ("name", "page", "status", "error_code", "error")}
                )
        self.rows += len(rows)
        self.bill.add_rows(rows)
        result = self._result if self.plan.schema else None
        self._results.add([typed(row, result) for row in rows])
        self._record_calls()

    def unasked_row(self, source: Source) -> Row:
        """The row of a file that the run ended before asking about."""
        halt = self.engine.halt
        row = unavailable_row(source, self.plan.question, self.plan.preset.name, halt.message if halt else "")
        return {**row, "status": "unasked", "error_code": halt.kind if halt else None}

    def broken_row(self, source: Source, error: object) -> Row:
        """The row of a file whose task failed in a way that nobody foresaw; a later run tries again."""
        reason = f"The task failed ({type(error).__name__}: {str(error)[:200]})."
        return {**unavailable_row(source, self.plan.question, self.plan.preset.name, reason), "error_code": "internal"}

    def stop(self, halt: Halt) -> None:
        """Make no more calls."""
        self.engine.stop(halt)

    @property
    def status(self) -> str:
        """completed, completed_with_failures, paused, stopped or interrupted."""
        halt = self.engine.halt
        if halt is not None and (halt.error or self.statuses["unasked"] or self.statuses["unavailable"]):
            return halt.kind  # else the run was told to end when there was nothing left to ask
        return "completed" if self.statuses["ok"] == self.rows else "completed_with_failures"

    def finish(self) -> dict[str, Any]:
        """Write the bill and the run's own row; the summary that `--json` prints."""
        plan = self.plan
        with self._handing_on():
            costs = self.bill.rows(cny_per_usd=plan.cny_per_usd, simulated=plan.simulated)
            self._write("costs", "costs.parquet", costs)
            row = run_row(self)
            self._write("runs", "run.parquet", [row])
        self.summary = summary_of(plan.output, row, costs)
        self._let_go()
        return self.summary

    @contextmanager
    def _handing_on(self) -> Iterator[None]:
        """Whatever goes wrong, leave the journal to a later run, also of this process."""
        try:
            yield
        except BaseException:
            self.journal.close()
            raise

    def _let_go(self) -> None:
        """The journal has served once all that it vouches for is durable elsewhere; else a later run takes it in."""
        try:
            self.store.sync()
        except OSError as error:
            log.warning("%s A later run makes sure of it.", explain_storage(error, str(home()), "write"))
            self.journal.needed = True
        self.engine.recorded()

    def _result(self, row: Row) -> Any:
        """The typed answer, with boxes in pixels of the original image."""
        schema = self.plan.schema
        assert schema is not None
        value = schema.fit(row["answer"]).value
        return schema.map_boxes(value, RowTransform.of(row)) if value is not None and schema.boxes else value

    def _record_calls(self) -> None:
        calls = self.ledger.drain()
        self.bill.add_calls(calls)
        self._calls.add(calls)

    def _take_in_dead_runs(self) -> None:
        """List the calls that were in flight when an earlier run died: they may have been paid."""
        maybe = recover(self.plan.output, self.plan.name, self.journal, self.store)
        self.bill.add_calls(maybe)
        self._calls.add(maybe)

    def _close_tables(self) -> None:
        self._record_calls()
        self._results.close()
        self._calls.close()
        give_back()  # what asking took, before the report is made

    def _write(self, table: str, name: str, rows: list[Row]) -> None:
        write_table_file(TableFile(self.plan.output, table, self.plan.name, self.plan.run_id, name), rows)

    def _writer(self, table: str, **options: Any) -> TableWriter:
        return TableWriter(self.plan.output, table, self.plan.name, self.plan.run_id, **options)


def engine_settings(plan: Plan) -> EngineSettings:
    """What the engine needs to know of a plan.

    Where the model could not be checked for free, or a schema has to be compiled once, one call goes first alone.
    """
    job, cap = plan.job, spending_cap(plan)
    return EngineSettings(
        run_id=plan.run_id,
        endpoint=plan.endpoint,
        steps=plan.steps,
        schema=plan.schema,
        concurrency=job.concurrency,
        per_second=job.calls_per_second,
        timeout=job.timeout,
        max_cost=cap,
        cap_remedy="Raise --max-cost"
        if job.max_cost_per_day is None or cap == job.max_cost
        else "Raise max_cost_per_day, or wait until tomorrow (UTC)",
        refresh=job.refresh,
        one_first=not plan.model_known or plan.schema is not None,
    )


def claims_of(plan: Plan) -> Claims:
    """Answers are claimed before they are asked for: on this machine, and on S3 where they are kept there."""
    where = plan.output.uri
    if not is_s3(where):
        return Claims(RangeLocks(home() / "asking"))
    locks = RangeLocks(home() / "asking", where)
    return Claims(locks, S3Claims(f"{where}/{FOLDER}/claims", plan.run_id, lease_uri(plan.output, plan.name)))


def spending_cap(plan: Plan) -> Decimal | None:
    """What this run may spend: what its own cap or the day's has left, if that is less.

    A cap is of the whole flow run: Retry or Resume in Prefect goes on under it. Runs of one job take turns, so that
    what the tables say was spent is all that was.
    """
    job, output = plan.job, plan.output
    left = []
    if job.max_cost is not None:
        before = spent_by_attempts(output, plan.name, plan.flow_run) if plan.flow_run else Decimal(0)
        left.append(job.max_cost - before)
    if job.max_cost_per_day is not None:
        left.append(job.max_cost_per_day - spent_today(output, plan.name))
    return max(min(left), Decimal(0)) if left else None
