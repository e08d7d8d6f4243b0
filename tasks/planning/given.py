"""A job from what a form, a schedule or a Python call gives, and settings from the environment."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from config.job import Job
from config.mistakes import explained
from tasks.errors import UsageError

T = TypeVar("T")


def job_of(values: Job | Mapping[str, Any]) -> Job:
    """The job that the values describe; UsageError names the first that cannot be."""
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("job", *problem["loc"])))
        raise UsageError(f"{place}: {explained(problem)}.") from None


def said(setting: Callable[[], T]) -> T:
    """What the environment says of a setting; UsageError where that cannot be."""
    try:
        return setting()
    except ValueError as error:
        raise UsageError(str(error)) from None
