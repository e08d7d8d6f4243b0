"""A job from what a form, a schedule or a Python call gives."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from config.job import Job
from config.mistakes import explained
from tasks.errors import UsageError


def job_of(values: Job | Mapping[str, Any]) -> Job:
    """The job that the values describe; UsageError names the first that cannot be."""
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("job", *problem["loc"])))
        raise UsageError(f"{place}: {explained(problem)}.") from None
