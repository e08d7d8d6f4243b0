"""Plan: everything that can be known and checked before the first paid call.

A plan resolves the job's names (preset, schema, model, endpoint, prices), lists the images, and stops with one line of
cause and remedy for whatever would fail later: bad configuration never costs a call.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from config.endpoints import Endpoint
from config.job import Job, job_name
from config.presets import Preset
from config.prices import prices_of
from tasks.asking.client import Checked
from tasks.asking.question import Question, Step
from tasks.listing import Listing, Progress, list_images
from tasks.planning.resolving import ResolvedJob, models_of, preflight, resolve
from tasks.preparing import PREPARATION_VERSION
from tasks.recording.writer import jobs_for
from tasks.schemas import AnswerSchema
from tasks.storage.output import Output, open_output
from tasks.types import ImageRules


@dataclass(frozen=True)
class Part:
    """A process of a fleet: the number of its shard, 0 for the parent, and how often that was started before."""

    number: int
    attempt: int

    @property
    def tag(self) -> str:
        """In the names of what it writes."""
        return f"{self.number:03}-{self.attempt}"


def new_run_id(ending: str | None = None) -> str:
    """A name that sorts by time, to the millisecond, and is unique: a small run takes less than a second."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond // 1000:03}-{ending or secrets.token_hex(2)}"


@dataclass(frozen=True)
class Plan:
    """A run before it starts: where, what, how, of whom."""

    run_id: str
    names: tuple[str, ...]
    """The job asked for, and those up to the one that takes this run's tables (`jobs_for`)."""
    job: Job
    listing: Listing
    output: Output
    endpoint: Endpoint
    preset: Preset
    rules: ImageRules
    schema: AnswerSchema | None
    steps: tuple[Step, ...]
    second: tuple[Step, ...]
    simulated: bool
    model_known: bool
    notices: tuple[str, ...]
    flow_run: str | None = None
    """What the ids of all runs of one flow run end with: a retry in Prefect is a run of its own under the same cap."""
    part: Part | None = None
    """Which process of the run's fleet this is, if it is one."""

    @property
    def name(self) -> str:
        """The job in whose folders the run's tables lie."""
        return self.names[-1]

    @property
    def is_shard(self) -> bool:
        """Whether this is a part of a run whose other parts are resolved elsewhere."""
        return self.part is not None and self.part.number > 0

    @property
    def process(self) -> str:
        """Names what one process leaves: its journal."""
        return f"{self.run_id}.{self.part.tag}" if self.part else self.run_id

    @property
    def holder(self) -> str:
        """Who holds turn and claims: the run, or one of its shards, whichever process that is."""
        return f"{self.run_id}.{self.part.number:03}" if self.part and self.is_shard else self.run_id

    @property
    def turn(self) -> str:
        """What nobody else may be at work on at the same time: the job, or a shard."""
        return f"{self.names[0]}.{self.holder}" if self.is_shard else self.names[0]

    @property
    def question(self) -> Question:
        """The first question."""
        return self.steps[0].question

    @property
    def has_batches(self) -> bool:
        """Whether the endpoint has Message Batches, and a price of each model in them."""
        prices = [price for model in models_of(self.job) for price in prices_of(self.endpoint.prices, model)]
        return self.endpoint.batches and all(price.batch_factor is not None for price in prices)

    @property
    def cny_per_usd(self) -> Decimal:
        """Yuan for one dollar: the job's, else the endpoint's."""
        return self.job.cny_per_usd or self.endpoint.cny_per_usd

    @property
    def chunk_prefix(self) -> str:
        """Where finished chunks of this plan are kept."""
        return chunk_prefix(self.steps, self.rules, self.schema, self.second, self.job.verify_below)


def make_plan(
    source: str, output: str, job: Job, progress: Progress | None = None, *, flow_run: str | None = None
) -> Plan:
    """Resolve and check everything; UsageError or a StopRun says what is wrong and what to do.

    `progress` is told how many images are listed so far.
    """
    where = open_output(output)
    resolved, checked = resolve_at(where, job)  # before the listing, which may take minutes
    listing = list_images(source, include=job.include, exclude=job.exclude, limit=job.limit, progress=progress)
    return plan_of(listing, where, resolved, checked, flow_run=flow_run)


def resolve_at(where: Output, job: Job) -> tuple[ResolvedJob, Checked]:
    """The job's names, resolved, and what this machine may write and ask; raises what is wrong."""
    resolved = resolve(job)
    where.check_writable()
    checked = preflight(resolved.endpoint, job)
    return resolved.at(checked), checked


def plan_of(
    listing: Listing, where: Output, resolved: ResolvedJob, checked: Checked, *, flow_run: str | None = None
) -> Plan:
    """The plan of a job whose names are resolved and whose images are listed. Raises OutputError."""
    job = resolved.job
    names = jobs_for(where, job.name or job_name(listing.source), resolved.schema.arrow if resolved.schema else None)
    return Plan(
        run_id=new_run_id(flow_run),
        names=names,
        job=job,
        listing=listing,
        output=where,
        endpoint=resolved.endpoint,
        preset=resolved.preset,
        rules=resolved.rules,
        schema=resolved.schema,
        steps=resolved.steps,
        second=resolved.second,
        simulated=checked.simulated,
        model_known=checked.model_known,
        notices=(*resolved.notices, *_name_notices(names)),
        flow_run=flow_run,
        part=Part(0, 0) if job.pool else None,
    )


def chunk_prefix(
    steps: tuple[Step, ...],
    rules: ImageRules,
    schema: AnswerSchema | None,
    second: tuple[Step, ...] = (),
    below: float | None = None,
) -> str:
    """Where finished chunks of these questions, asked of images prepared this way, are kept."""
    resolved, read_again = (
        [[one.question.digest, one.question.max_tokens] for one in some] for some in (steps, second)
    )
    parts = [PREPARATION_VERSION, repr(rules), resolved, schema.digest if schema else None]
    parts += [read_again] if second else []
    parts += [below] if below is not None else []
    return f"batches/{_digest(parts)[:32]}"


def _name_notices(names: tuple[str, ...]) -> list[str]:
    """Why the tables are not where the job's name says."""
    if len(names) == 1:
        return []
    return [f"Earlier runs of the job {names[0]} have other columns: this run's tables go to the job {names[-1]}."]


def _digest(value: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
