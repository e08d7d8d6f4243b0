"""What an endpoint says for free before anything is listed: whether it knows the models, and has Message Batches."""

from dataclasses import replace

from config.endpoints import Endpoint
from config.job import Job
from tasks.asking.batches.wire import check_batches, without_batches
from tasks.asking.client import Checked, check_endpoint, completed, make_client
from tasks.errors import EndpointError, UsageError

AGAIN = "again"  # as --verify: the same model reads a second time


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


def check(where: Endpoint, job: Job) -> Checked:
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
