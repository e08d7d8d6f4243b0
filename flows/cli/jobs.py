"""From options and a job file to a job."""

import argparse
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from config.endpoints import endpoint, endpoint_names, endpoint_row
from config.job import TEXTS, Choices, Job, mistake, text_or_file
from config.models import listed_models, model_facts
from config.presets import preset, preset_names
from config.prices import price_table
from config.user_files import ConfigError, read_text
from flows.cli.arguments import did_you_mean
from tasks.errors import EndpointError, UsageError

# Not part of the job itself.
PLACES = ("source", "output")
FIELDS = tuple(field.alias or name for name, field in Job.model_fields.items())
SETTINGS = (*PLACES, *FIELDS)
# Options whose name is not that of the field; a job file may say either.
OPTIONS = {"label": "labels"}
VARIED = {"model": "models", "preset": "presets", "prompt": "prompts"}  # of `compare`
CHOICES = tuple(Choices.model_fields)
REPEATABLE = ("labels", "fallback_prompt", "fallback_model", "include", "exclude")


@dataclass(frozen=True)
class Given:
    """A value, and the words that say where a person wrote it."""

    value: Any
    place: str


def load_job(arguments: argparse.Namespace) -> tuple[str, str | None, Job]:
    """Source, output and job; an option given overrides the job file.

    Raises UsageError, or EndpointError for an endpoint that is none; both say where the value stands.
    """
    check_configuration()
    given = _job_file(arguments.job_file) if arguments.job_file else {}
    given |= {
        name: Given(value, _option(name))
        for name, value in vars(arguments).items()
        if name in SETTINGS and value is not None
    }
    source, output = (_place(given.pop(name, None)) for name in PLACES)
    if not source:
        raise UsageError("SOURCE is missing: name a folder, a file, a glob, a manifest or s3://bucket/prefix.")
    job = _job(given)
    _check_names(job, given)
    return source, output, job


def load_choices(arguments: argparse.Namespace) -> Choices:
    """What a comparison varies. Raises UsageError."""
    given = {name: Given(value, _option(name)) for name, value in vars(arguments).items() if name in CHOICES}
    values = {name: one.value for name, one in given.items() if one.value is not None}
    if "prompts" in values:
        values["prompts"] = _text(given["prompts"])
    try:
        choices = Choices(**values)
        for name in choices.presets:
            preset(name)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{given[str(problem['loc'][0])].place}: {mistake(problem)}.") from None
    except LookupError as error:
        raise UsageError(f"--preset: {error.args[0]}") from None
    return choices


def check_configuration() -> None:
    """Raise UsageError unless every row of the TOML files can be used."""
    try:
        check_tables()
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _job(given: dict[str, Given]) -> Job:
    values = {name: _text(one) if name in TEXTS else one.value for name, one in given.items()}
    try:
        return Job(**values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{given[str(problem['loc'][0])].place}: {mistake(problem)}.") from None


def _text(given: Given) -> Any:
    """The value with the text of each `@FILE`; what is no text is the job's to refuse."""
    values = given.value if isinstance(given.value, list) else [given.value]
    try:
        texts = [text_or_file(value) if isinstance(value, str) else value for value in values]
    except ValueError as error:
        raise UsageError(f"{given.place}: {error}.") from None
    return texts if isinstance(given.value, list) else texts[0]


def _check_names(job: Job, given: dict[str, Given]) -> None:
    try:
        preset(job.preset)
    except LookupError as error:
        raise UsageError(f"{given['preset'].place}: {error.args[0]}") from None
    try:
        endpoint(job.endpoint_name)
    except LookupError as error:
        place = given["endpoint"].place if job.endpoint else "ANTHROPIC_BASE_URL"
        raise EndpointError(f"{place}: {error.args[0]}") from None


def _place(given: Given | None) -> str | None:
    """SOURCE or --output, which only a job file can give as something else than text."""
    if given is None or given.value == "":
        return None
    if not isinstance(given.value, str):
        raise UsageError(f"{given.place}: {given.value!r} is no text; put it in quotes.")
    return given.value


def _job_file(path: str) -> dict[str, Given]:
    import yaml

    try:
        values = yaml.safe_load(read_text(path))
    except OSError as error:
        raise UsageError(f"Cannot read the job file {path}: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"The job file {path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict):
        raise UsageError(f"The job file {path} must hold `option: value` lines.")
    given: dict[str, Given] = {}
    for name, value in values.items():
        setting = _setting(path, str(name))
        if setting in given:
            raise UsageError(f"{path}: {name}: this setting stands there twice.")
        given[setting] = Given(
            [value] if isinstance(value, str) and setting in REPEATABLE else value, f"{path}: {name}"
        )
    return {setting: one for setting, one in given.items() if one.value is not None}


def _setting(path: str, name: str) -> str:
    """The setting that a job file means, which may be spelt like the option."""
    spelt = name.removeprefix("--").replace("-", "_")
    setting = OPTIONS.get(spelt, spelt)
    if setting not in SETTINGS:
        hint = did_you_mean(spelt, (*SETTINGS, *OPTIONS)) or "`visionflow run --help` lists them."
        raise UsageError(f"{path}: there is no setting {name!r}. {hint}")
    return setting


def _option(setting: str) -> str:
    """The setting's option, as a person types it."""
    spelt = {field: option for option, field in (OPTIONS | VARIED).items()}.get(setting, setting)
    return "SOURCE" if setting == "source" else f"--{spelt.replace('_', '-')}"


def check_tables() -> None:
    """Raise ConfigError for the first row of a TOML file, packaged or the user's own, that cannot be used.

    Every row is checked at once, so that a mistake of the user's shows before a run begins.
    """
    for name in endpoint_names():
        endpoint_row(name)
    for name in listed_models():
        model_facts(name)
    for name in preset_names():
        preset(name)
    price_table()
