"""The run context: what every step of a run works with. What changes while a run goes on has a part of its own.

Knows nothing of Prefect.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from config.prices import prices_of
from config.settings import batch_absence, home
from tasks.asking.batches.intents import IntentLog
from tasks.asking.calls import CallLedger
from tasks.asking.claims import Claims, S3Claims
from tasks.asking.engine import Engine
from tasks.asking.halting import Halt
from tasks.asking.journal import Journal, folder_name
from tasks.asking.pages import BatchSettings, EngineSettings, Outcome, Page
from tasks.asking.shared_journal import SharedJournal
from tasks.billing.bill import spent_by_attempts, spent_today
from tasks.orchestration.recorder import Recorder
from tasks.orchestration.summary import about
from tasks.orchestration.turn import lease_uri
from tasks.planning.plan import Plan
from tasks.preparing.preparers import Memory, Preparation, Preparers
from tasks.recording.reading import listed
from tasks.recording.recovery import recover
from tasks.recording.rows import Row, unavailable_row
from tasks.scoring.readings import sureness
from tasks.storage.locks import RangeLocks
from tasks.storage.records import FOLDER, state_folder
from tasks.storage.s3 import is_s3
from tasks.types import Source

CALLS_EACH = 10**9  # numbers of calls for one process of a fleet
# What a person does about a cap that is reached.
REMEDIES = {
    None: "Raise --max-cost",
    "max_cost": "Raise --max-cost",
    "max_cost_per_day": "Raise max_cost_per_day, or wait until tomorrow (UTC)",
}


@dataclass(frozen=True, eq=False)
class RunContext:
    """One run: its plan, and what it prepares, asks and records with."""

    plan: Plan
    store: Any
    engine: Engine
    preparers: Preparers
    preparation: Preparation
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
            with self.engine, self.preparers:
                yield self
            self.recorder.close()

    def finish(self) -> dict[str, Any]:
        """Write the bill and the run's own row; the summary that `--json` prints."""
        with handing_on(self.recorder.journal):
            batches = self.engine.batches
            summary = self.recorder.finish(self.halt, (batches.count, batches.requests) if batches else (0, 0))
        self.recorder.let_go(self.store)
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


def make_context(plan: Plan, store: Any, memory: Memory | None = None) -> RunContext:
    """Everything a plan needs to run. Calls of earlier runs that died are taken in first. Raises OutputError.

    `memory` holds what runs that send images alike prepare once for all of them.
    """
    started_at = datetime.now(UTC)
    journal = _journal(plan, about(plan, started_at))
    ledger = CallLedger(journal, endpoint=plan.endpoint.identity, preset=plan.preset.name, first=_first_call(plan))
    recorder = Recorder(plan, ledger, started_at)
    with handing_on(journal):
        for name in [plan.name] if plan.is_shard else plan.names:
            recorder.record_calls(
                recover(plan.output, name, journal, store, shard=plan.holder if plan.is_shard else "")
            )
        # Only now: its cap for the day counts what dead runs paid.
        engine = Engine(engine_settings(plan), store, ledger, claims_of(plan))
    preparers = Preparers(on_s3=plan.listing.images.on_s3, memory=memory)
    return RunContext(plan, store, engine, preparers, Preparation(), recorder)


def _journal(plan: Plan, described: dict[str, Any]) -> Journal:
    """Where who takes it over finds it: on this machine, or for a shard with the output. Raises OutputError."""
    where = plan.output.uri
    if not (plan.is_shard and is_s3(where)):
        return Journal(where, plan.name, plan.process, described)
    return SharedJournal(where, plan.name, plan.process, {**described, "lease": lease_uri(plan.output, plan.turn)})


def _first_call(plan: Plan) -> int:
    """Processes of one run number their calls apart."""
    return 1 if plan.part is None else (1000 * plan.part.number + plan.part.attempt) * CALLS_EACH + 1


@contextmanager
def handing_on(journal: Journal) -> Iterator[None]:
    """Whatever goes wrong within, leave the journal to a later run, also of this process."""
    try:
        yield
    except BaseException:
        journal.close()
        raise


def engine_settings(plan: Plan) -> EngineSettings:
    """What the engine needs to know of a plan.

    Where the model could not be checked for free, or a schema has to be compiled once, one call goes first alone.
    """
    job, left = plan.job, _left(plan)
    return EngineSettings(
        run_id=plan.run_id,
        endpoint=plan.endpoint,
        steps=plan.steps,
        second=plan.second,
        reads_again=partial(_reads_again, plan),
        schema=plan.schema,
        concurrency=job.concurrency,
        per_second=job.calls_per_second,
        timeout=job.timeout,
        max_cost=_cap(plan, left),
        cap_remedy=REMEDIES[_binding(left)],
        refresh=job.refresh,
        one_first=not plan.model_known or plan.schema is not None,
        batches=batch_settings(plan),
    )


def batch_settings(plan: Plan) -> BatchSettings | None:
    """How this run uses Message Batches; None for one that asks online, where none was submitted before."""
    job, place = plan.job, batch_place(plan.output.uri, plan.names[0])
    mode = job.mode if plan.has_batches else "online"
    if mode == "online" and not IntentLog(place).open():
        return None
    return BatchSettings(
        log=place,
        folder=home() / "batches" / "reading",
        mode=mode,
        no_wait=job.no_wait,
        deadline=None if job.deadline is None else job.deadline * 3600,
        most_bytes=min(BatchSettings.most_bytes, plan.endpoint.max_batch_bytes),
        model_known=plan.model_known or bool(prices_of(plan.endpoint.prices, plan.question.model)),
        absent=batch_absence(),
        listed=partial(listed, plan.output, plan.names),
    )


def batch_place(output: str, job: str) -> str:
    """Where it is written down what a job has submitted: beside the answers."""
    if is_s3(output):
        return f"{output.rstrip('/')}/{FOLDER}/submitted/{job}"
    return str(home() / "batches" / folder_name(output, job))


def _reads_again(plan: Plan, page: Page, outcome: Outcome) -> bool:
    """Every good answer, or with `--verify-below` one that looks less sure."""
    below = plan.job.verify_below
    return below is None or plan.schema is None or sureness(plan.schema, page, outcome) < below


def claims_of(plan: Plan) -> Claims:
    """Answers are claimed before they are asked for: on this machine, or wherever else they are kept."""
    where = plan.output.uri
    if not is_s3(where):
        return Claims(RangeLocks(state_folder(where) / "asking"))
    locks = RangeLocks(home() / "asking", where)
    return Claims(locks, S3Claims(f"{where}/{FOLDER}/claims", plan.holder, lease_uri(plan.output, plan.turn)))


def spending_cap(plan: Plan) -> Decimal | None:
    """What this run may spend: what its own cap or the day's has left, if that is less."""
    return _cap(plan, _left(plan))


def binding_cap(plan: Plan) -> str | None:
    """The job's field whose cap would be reached first; None where there is no cap."""
    return _binding(_left(plan))


def spent_so_far(plan: Plan) -> Decimal:
    """US dollars that all runs of this flow run have spent, by the tables."""
    spent = (spent_by_attempts(plan.output, name, plan.flow_run) for name in plan.names if plan.flow_run)
    return sum(spent, Decimal(0))


def _left(plan: Plan) -> dict[str, Decimal]:
    """US dollars that each of the job's caps leaves.

    A cap is of the whole flow run: Retry or Resume in Prefect goes on under it. Runs of one job take turns, so that
    what the tables say was spent is all that was.
    """
    job, left = plan.job, dict[str, Decimal]()
    if job.max_cost is not None:
        left["max_cost"] = job.max_cost - spent_so_far(plan)
    if job.max_cost_per_day is not None:
        today = (spent_today(plan.output, name) for name in plan.names)
        left["max_cost_per_day"] = job.max_cost_per_day - sum(today, Decimal(0))
    return left


def _cap(plan: Plan, left: Mapping[str, Decimal]) -> Decimal | None:
    if not left:
        return None
    if plan.is_shard:  # nothing yet: it is granted its share
        return Decimal(0)
    return max(min(left.values()), Decimal(0))


def _binding(left: Mapping[str, Decimal]) -> str | None:
    return min(left, key=left.__getitem__, default=None)
