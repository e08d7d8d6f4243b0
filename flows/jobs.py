"""From options and a job file to a job."""

import argparse
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.job import Job
from tasks.errors import UsageError

# Not part of the job itself.
PLACES = ("source", "output")


def load_job(arguments: argparse.Namespace) -> tuple[str, str | None, Job]:
    """Source, output and job; UsageError says which value is wrong. An option given overrides the job file."""
    values = _job_file(arguments.job_file) if arguments.job_file else {}
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    fields = {field.alias or name for name, field in Job.model_fields.items()}
    values |= {name: value for name, value in given.items() if name in fields or name in PLACES}
    source, output = values.pop("source", None), values.pop("output", None)
    if not source:
        raise UsageError("SOURCE is missing: name a folder, a file, a glob, a manifest or s3://bucket/prefix.")
    return str(source), str(output) if output else None, make_job(values)


def make_job(values: dict[str, Any]) -> Job:
    """A job from plain values; UsageError names the first wrong one."""
    try:
        return Job(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = str(problem["loc"][0]) if problem["loc"] else "job"
        raise UsageError(_explained(place, problem["type"], problem["msg"])) from None


def _explained(place: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        alike = get_close_matches(place, [field.alias or name for name, field in Job.model_fields.items()], n=1)
        return f"There is no setting {place!r}." + (f" Did you mean {alike[0]!r}?" if alike else "")
    message = message.removeprefix("Value error, ").replace("Input should be", "it must be")
    return f"{_spelt(place)}: {message}."


def _job_file(path: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the job file {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The job file {path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict):
        raise UsageError(f"The job file {path} must hold `option: value` lines.")
    return {str(name).replace("-", "_"): _listed(name, value) for name, value in values.items()}


def _listed(name: str, value: Any) -> Any:
    """One value where several may stand is a list of one."""
    repeatable = {"labels", "fallback_prompt", "fallback_model", "include", "exclude"}
    return [value] if isinstance(value, str) and str(name).replace("-", "_") in repeatable else value


def _spelt(field: str) -> str:
    """The option's name, as a person types it."""
    return f"--{field.replace('_', '-')}"
