"""Plan: everything that can be known and checked before the first paid call.

A plan resolves the job's names (preset, schema, model, endpoint, prices), lists the images, and stops with one line of
cause and remedy for whatever would fail later: bad configuration never costs a call.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from config.endpoints import Endpoint, endpoint
from config.job import Job, job_name
from config.models import ModelFacts, model_facts
from config.presets import Preset, preset
from config.prices import prices_of
from tasks.asking.client import Checked
from tasks.asking.question import SECOND, Question, Step
from tasks.errors import EndpointError, PriceError, UsageError
from tasks.listing import Listing, Progress, list_images
from tasks.planning.part import Part, new_run_id
from tasks.planning.preflight import check, check_mode, check_readings, models_of, second_reader
from tasks.preparing import PREPARATION_VERSION
from tasks.recording.jobs import jobs_for
from tasks.schemas import AnswerSchema, classification_schema, load_schema
from tasks.storage.output import Output, open_output
from tasks.types import ImageRules


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
        """Whether this is a part of a run whose other parts are asked elsewhere."""
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
    def batch_prefix(self) -> str:
        """Where finished batches of this plan are kept."""
        return batch_prefix(self.steps, self.rules, self.schema, self.second, self.job.verify_below)


def make_plan(
    source: str, output: str, job: Job, progress: Progress | None = None, *, flow_run: str | None = None
) -> Plan:
    """Resolve and check everything; UsageError or a StopRun says what is wrong and what to do.

    `progress` is told how many images are listed so far.
    """
    where = open_output(output)
    asked, checked = resolve_at(where, job)  # before the listing, which may take minutes
    listing = list_images(source, include=job.include, exclude=job.exclude, limit=job.limit, progress=progress)
    return plan_of(listing, where, asked, checked, flow_run=flow_run)


def resolve_at(where: Output, job: Job) -> "tuple[Asked, Checked]":
    """The job's names, resolved, and what this machine may write and ask; raises what is wrong."""
    asked = resolve(job)
    where.check_writable()
    checked = check(asked.endpoint, job)
    return asked.at(checked), checked


def plan_of(listing: Listing, where: Output, asked: "Asked", checked: Checked, *, flow_run: str | None = None) -> Plan:
    """The plan of a job whose names are resolved and whose images are listed. Raises OutputError."""
    job = asked.job
    names = jobs_for(where, job.name or job_name(listing.source), asked.schema.arrow if asked.schema else None)
    return Plan(
        run_id=new_run_id(flow_run),
        names=names,
        job=job,
        listing=listing,
        output=where,
        endpoint=asked.endpoint,
        preset=asked.preset,
        rules=asked.rules,
        schema=asked.schema,
        steps=asked.steps,
        second=asked.second,
        simulated=checked.simulated,
        model_known=checked.model_known,
        notices=(*asked.notices, *_name_notices(names)),
        flow_run=flow_run,
        part=Part(0, 0) if job.pool else None,
    )


@dataclass(frozen=True)
class Asked:
    """A job's names, resolved."""

    job: Job
    preset: Preset
    facts: ModelFacts
    endpoint: Endpoint
    schema: AnswerSchema | None
    notices: tuple[str, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The fallback chain: the first prompt, the fallback prompts, then the first prompt to each fallback model."""
        first = self._question(self.job.model, self.job.prompt or self.preset.prompt)
        prompts = [replace(first, prompt=prompt) for prompt in self.job.fallback_prompt]
        models = [self._question(model, first.prompt) for model in self.job.fallback_model]
        return tuple(Step(number, question) for number, question in enumerate([first, *prompts, *models]))

    @property
    def second(self) -> tuple[Step, ...]:
        """For each step the second reading of the images that it answers: by another model, or asked anew."""
        if self.job.verify is None:
            return ()
        firsts = [step.question for step in self.steps]
        others = [self._question(second_reader(self.job, one.model), one.prompt) for one in firsts]
        pairs = zip(firsts, others, strict=True)
        return tuple(Step(SECOND, replace(two, reading=2) if two.model == one.model else two) for one, two in pairs)

    @property
    def rules(self) -> ImageRules:
        """What images must be for this job."""
        return image_rules(self.preset, self.facts, self.endpoint)

    def at(self, checked: Checked) -> "Asked":
        """The same, at the endpoint as it described itself."""
        where = checked.endpoint
        moved = replace(self, endpoint=where)
        foreign = [f"{where.base_url} has no prices of its own: calls are counted at {where.prices}'s list price."]
        alone = [f"{where.base_url} has no Message Batches: all is asked online."]
        foreign = foreign if where.name == "custom" else []
        alone = alone if self.job.mode == "auto" and not where.batches else []
        notices = (*self.notices, *foreign, *alone, *_cache_notices(moved))
        return replace(moved, notices=notices)

    def _question(self, model: str, prompt: str) -> Question:
        facts = model_facts(model)
        return Question(
            endpoint=self.endpoint.identity,
            facts=facts,
            model=model,
            prompt=prompt,
            system=self.job.system,
            schema=self.schema.api if self.schema else None,
            schema_in_prompt=not self.endpoint.structured_outputs,
            room=min(self.job.max_tokens or self.preset.max_tokens, facts.max_output),
            effort=self.job.effort if facts.effort else None,
        )


def resolve(job: Job) -> Asked:
    """Look up every name of a job; UsageError for an unknown preset, EndpointError, SchemaError, PriceError."""
    check_mode(job)
    try:
        chosen = preset(job.preset)
    except LookupError as error:
        raise UsageError(error.args[0]) from None
    try:
        where = endpoint(job.endpoint_name)
    except LookupError as error:
        raise EndpointError(error.args[0]) from None
    notices = [where.notice] if where.notice else []
    for model in models_of(job):
        notices += _model_notices(model, where, job)
    schema = _schema(job, chosen)
    check_readings(job, typed=schema is not None)
    return Asked(job, chosen, model_facts(job.model), where, schema, tuple(notices))


def image_rules(chosen: Preset, facts: ModelFacts, where: Endpoint) -> ImageRules:
    """What images must be for this preset, model and endpoint."""
    edge, tokens = facts.vision_limits
    return ImageRules(
        max_edge=chosen.max_edge,
        quality=chosen.quality,
        model_edge=edge,
        model_tokens=tokens,
        max_base64_bytes=where.max_base64_bytes,
    )


def batch_prefix(
    steps: tuple[Step, ...],
    rules: ImageRules,
    schema: AnswerSchema | None,
    second: tuple[Step, ...] = (),
    below: float | None = None,
) -> str:
    """Where finished batches of these questions, asked of images prepared this way, are kept."""
    asked, read_again = ([[one.question.digest, one.question.max_tokens] for one in some] for some in (steps, second))
    parts = [PREPARATION_VERSION, repr(rules), asked, schema.digest if schema else None]
    parts += [read_again] if second else []
    parts += [below] if below is not None else []
    return f"batches/{_digest(parts)[:32]}"


def _model_notices(model: str, where: Endpoint, job: Job) -> list[str]:
    prices = prices_of(where.prices, model)
    if job.mode == "batch" and any(price.batch_factor is None for price in prices):
        raise PriceError(
            f"No price of {model} in Message Batches at {where.name}, so no bill could be exact. "
            "Leave --mode out, or give its rows in prices.toml a batch_factor."
        )
    facts = model_facts(model)
    if facts.retired and facts.retired <= datetime.now(UTC).date() and where.name == "anthropic":
        raise EndpointError(f"{model} was retired on {facts.retired}. Take another --model, such as claude-haiku-5-5.")
    if not prices:
        if job.unpriced == "allow":
            return [f"{model} has no price at {where.name}: its calls count as $0."]
        raise PriceError(
            f"No price for the model {model!r} at {where.name}, so no bill could be exact. Check --model "
            "(`visionflow prices` lists all), add a row to config/prices.toml, or say `unpriced: allow` in the job."
        )
    return []


def _name_notices(names: tuple[str, ...]) -> list[str]:
    """Why the tables are not where the job's name says."""
    if len(names) == 1:
        return []
    return [f"Earlier runs of the job {names[0]} have other columns: this run's tables go to the job {names[-1]}."]


def _cache_notices(asked: Asked) -> list[str]:
    """Why a system prompt will not be cached, where it might have been."""
    notice = asked.steps[0].question.cache_notice if asked.endpoint.caching else None
    return [notice] if notice else []


def schema_of(job: Job) -> AnswerSchema | None:
    """The type of the job's answers; LookupError for an unknown preset, SchemaError."""
    return _schema(job, preset(job.preset))


def _schema(job: Job, chosen: Preset) -> AnswerSchema | None:
    spec = job.answer_schema or chosen.schema
    schema = classification_schema(list(job.labels)) if job.labels else load_schema(spec) if spec else None
    return schema.with_evidence() if schema is not None and job.evidence else schema


def _digest(value: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
