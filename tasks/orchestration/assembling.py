"""Assembling a run: engine, claims, journal, tables and threads that a plan needs. Knows nothing of Prefect."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from config.prices import prices_of
from config.settings import batch_absence, home
from tasks.asking.batches.intents import IntentLog
from tasks.asking.calls import CallLedger, Journal
from tasks.asking.claim_log import S3Claims
from tasks.asking.claims import Claims
from tasks.asking.engine import Engine
from tasks.asking.journal import LocalJournal, folder_name, journal_path, was_at_work
from tasks.asking.pages import BatchSettings, EngineSettings, Outcome, Page
from tasks.asking.shared_journal import SharedJournal
from tasks.orchestration.context import RunContext, RunStore, handing_on
from tasks.orchestration.recorder import Recorder
from tasks.orchestration.summary import about
from tasks.orchestration.turn import lease_uri
from tasks.planning.caps import cap_of
from tasks.planning.plan import Plan
from tasks.preparing.threads import PrepareCounts, PreparedCache, PrepareThreads
from tasks.recording.reading_back import ended_requests
from tasks.recording.recovery import recover
from tasks.scoring.readings import sureness
from tasks.storage.locks import RangeLocks
from tasks.storage.records import FOLDER, state_folder
from tasks.storage.s3 import is_s3

CALLS_EACH = 10**9  # numbers of calls for one process of a fleet


def make_context(plan: Plan, store: RunStore, cache: PreparedCache | None = None) -> RunContext:
    """Everything a plan needs to run. Calls of earlier runs that died are taken in first. Raises OutputError.

    `cache` holds what runs that send images alike prepare once for all of them.
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
        engine = Engine(engine_settings(plan), store, ledger, claims_of(plan, store))
    threads = PrepareThreads(on_s3=plan.listing.images.on_s3, cache=cache)
    return RunContext(plan, store, engine, threads, PrepareCounts(), recorder)


def _journal(plan: Plan, described: dict[str, Any]) -> Journal:
    """Where who takes it over finds it: on this machine, or for a shard with the output.

    BusyError for a process of a shard that is run again. Raises OutputError.
    """
    where = plan.output.uri
    if plan.is_shard and is_s3(where):
        return SharedJournal(where, plan.name, plan.process, {**described, "lease": lease_uri(plan.output, plan.turn)})
    if plan.is_shard and journal_path(where, plan.name, plan.process).exists():
        raise was_at_work(plan.process)
    return LocalJournal(where, plan.name, plan.process, described)


def _first_call(plan: Plan) -> int:
    """Processes of one run number their calls apart."""
    return 1 if plan.part is None else (1000 * plan.part.number + plan.part.attempt) * CALLS_EACH + 1


def engine_settings(plan: Plan) -> EngineSettings:
    """What the engine needs to know of a plan.

    Where the model could not be checked for free, or a schema has to be compiled once, one call goes first alone.
    """
    job, cap = plan.job, cap_of(plan)
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
        max_cost=cap.dollars if cap else None,
        cap_remedy=cap.remedy if cap else EngineSettings.cap_remedy,
        refresh=job.refresh,
        one_first=not plan.model_known or plan.schema is not None,
        batches=batch_settings(plan),
    )


def batch_settings(plan: Plan) -> BatchSettings | None:
    """How this run uses Message Batches; None for one that asks online, where none was submitted before."""
    job, place = plan.job, batch_place(plan.output.uri, plan.names[0])
    mode = job.mode if plan.has_batches else "online"
    if mode == "online" and not IntentLog(place).any():
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
        ended_requests=partial(ended_requests, plan.output, plan.names),
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


def claims_of(plan: Plan, store: RunStore) -> Claims:
    """Answers are claimed before they are asked for: on this machine, or wherever else they are kept."""
    where = plan.output.uri
    if not is_s3(where):
        return Claims(RangeLocks(state_folder(where) / "asking"))
    locks = RangeLocks(home() / "asking", where)
    place, lease = f"{where}/{FOLDER}/claiming", lease_uri(plan.output, plan.turn)
    return Claims(locks, S3Claims(place, plan.holder, lease, store.look_again))
