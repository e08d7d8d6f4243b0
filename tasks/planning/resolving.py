"""A job's names, resolved: preset, schema, models, endpoint, prices; and what the endpoint says of them for free.

Whatever would fail later stops here, before anything is listed, with one line of cause and remedy.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from config.endpoints import Endpoint, endpoint
from config.job import Job
from config.models import ModelFacts, model_facts
from config.presets import Preset, preset
from config.prices import prices_of
from tasks.asking.batches.wire import check_batches, without_batches
from tasks.asking.client import Checked, check_endpoint, completed, make_client
from tasks.asking.question import SECOND, Question, Step
from tasks.errors import EndpointError, PriceError, UsageError
from tasks.schemas import AnswerSchema, classification_schema, load_schema
from tasks.types import ImageRules

AGAIN = "again"  # as --verify: the same model reads a second time


@dataclass(frozen=True)
class ResolvedJob:
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

    def at(self, checked: Checked) -> "ResolvedJob":
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


def resolve(job: Job) -> ResolvedJob:
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
    return ResolvedJob(job, chosen, model_facts(job.model), where, schema, tuple(notices))


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


def schema_of(job: Job) -> AnswerSchema | None:
    """The type of the job's answers; LookupError for an unknown preset, SchemaError."""
    return _schema(job, preset(job.preset))


def models_of(job: Job) -> tuple[str, ...]:
    """Every model that a job may ask."""
    named = (job.model, *job.fallback_model, second_reader(job, job.model))
    return tuple(dict.fromkeys(named))


def second_reader(job: Job, model: str) -> str:
    """The model that reads what `model` has read a second time, if anything is."""
    return model if job.verify in (None, AGAIN) else job.verify


def check_mode(job: Job) -> None:
    """UsageError for options of batches that do not go together."""
    if job.no_wait and job.mode != "batch":
        raise UsageError("--no-wait is for --mode batch: a call online is waited for.")
    if job.deadline is not None and job.mode != "auto":
        raise UsageError("--deadline is for --mode auto, which chooses between batches and calls by it.")
    if job.mode == "auto" and job.deadline is None:
        raise UsageError("--mode auto needs --deadline HOURS, in which all must be answered.")


def check_readings(job: Job, *, typed: bool) -> None:
    """UsageError for a second reading or evidence that has nothing to be about."""
    if job.verify_below is not None and not job.verify:
        raise UsageError("--verify-below says which images --verify reads twice. Give --verify MODEL or again too.")
    if not typed and (job.verify or job.evidence):
        why = "compares two readings field by field" if job.verify else "says where the value of each field stands"
        option = "--verify" if job.verify else "--evidence"
        raise UsageError(f"{option} {why}, so answers need a --schema; `document` is one for any text.")


def preflight(where: Endpoint, job: Job) -> Checked:
    """Ask the endpoint for the job's models, which is free; EndpointError for a wrong key, address or model."""
    if job.mode == "batch" and not where.batches:
        raise EndpointError(without_batches(where))
    if not where.has_models_api and job.mode == "online":
        make_client(where, concurrency=1, timeout=10)  # says so when there is no key
        return Checked(where, simulated=False, model_known=False)

    async def ask() -> Checked:
        client = make_client(where, concurrency=1, timeout=min(job.timeout, 30.0))
        async with client:
            checked = Checked(where, simulated=False, model_known=False)
            for model in reversed(models_of(job)) if where.has_models_api else ():
                checked = await check_endpoint(client, where, model)
            if job.mode == "online" or not where.batches:
                return checked
            try:
                await check_batches(client, checked.endpoint)
            except EndpointError:
                if job.mode == "batch":
                    raise
                return replace(checked, endpoint=replace(checked.endpoint, batches=False))
            return checked

    return completed(ask())


def _schema(job: Job, chosen: Preset) -> AnswerSchema | None:
    spec = job.answer_schema or chosen.schema
    schema = classification_schema(list(job.labels)) if job.labels else load_schema(spec) if spec else None
    return schema.with_evidence() if schema is not None and job.evidence else schema


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


def _cache_notices(resolved: ResolvedJob) -> list[str]:
    """Why a system prompt will not be cached, where it might have been."""
    notice = resolved.steps[0].question.cache_notice if resolved.endpoint.caching else None
    return [notice] if notice else []
