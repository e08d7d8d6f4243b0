"""What a form, a schedule or a Python call gives: a job, if it may say that; and settings from the environment.

Prefect's open-source server knows no users. Whoever can submit the form of a deployment must not thereby learn a key or
read a file of the machine that runs it: a form gives names, and the operator's tables, files and environment say what
they stand for. Only a command line, a job file or a Python call may give a URL or a path beside source and output.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from config.endpoints import endpoint_names
from config.job import TEXTS, Job, mistake
from config.presets import ready_schemas
from tasks.errors import UsageError

T = TypeVar("T")


def job_of(values: Job | Mapping[str, Any]) -> Job:
    """The job that the values describe; UsageError names the first that cannot be."""
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("job", *problem["loc"])))
        raise UsageError(f"{place}: {mistake(problem)}.") from None


def checked_setting(setting: Callable[[], T]) -> T:
    """What the environment says of a setting; UsageError where that cannot be."""
    try:
        return setting()
    except ValueError as error:
        raise UsageError(str(error)) from None


def refusal(job: Job, variables: Mapping[str, Any], who: str = "a form") -> str | None:
    """Why a run that was started by a form, a schedule or an automation is refused, in one sentence; None if it is not.

    `variables` are the job variables that were given with this run alone; `who` gave the job.
    """
    return _endpoint(job, who) or _texts(job, who) or _schema(job, who) or _variables(variables, who)


def _endpoint(job: Job, who: str) -> str | None:
    if not job.endpoint or job.endpoint in endpoint_names():
        return None
    return (
        f"Refused: {who} must not give an endpoint's address, which would get the key; it names one of "
        f"{', '.join(endpoint_names())}, or a row of endpoints.toml in VISIONFLOW_CONFIG."
    )


def _texts(job: Job, who: str) -> str | None:
    for field in TEXTS:
        value = getattr(job, field) or ()
        if any(text.startswith("@") for text in ([value] if isinstance(value, str) else value)):
            return f"Refused: {field} begins with @, but {who} must not read a file; give the text itself."
    return None


def _schema(job: Job, who: str) -> str | None:
    if not job.answer_schema or job.answer_schema in ready_schemas():
        return None
    return (
        f"Refused: {who} must not read a schema's file or import its module; it names one of "
        f"{', '.join(ready_schemas())}, or a preset of presets.toml in VISIONFLOW_CONFIG that brings its own."
    )


def _variables(variables: Mapping[str, Any], who: str) -> str | None:
    if not variables.get("env"):
        return None
    return f"Refused: {who} must not set the run's environment; set it where the worker or `visionflow serve` starts."
