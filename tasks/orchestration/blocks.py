"""Keys by the name of a Prefect Secret block: never a value in a form, a parameter, a log or a table.

For the length of a run they are what the environment would have said, for this process: its clients read them there.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from config.endpoints import endpoint
from config.job import Job
from tasks.errors import StopRun, UsageError
from tasks.storage.s3 import s3_filesystem

NEEDED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Whoever brings keys brings all of it: those of the machine must not go to the block's endpoint, nor the other way.
REPLACED = (
    *NEEDED,
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


@contextmanager
def keys_from_blocks(job: Job) -> Iterator[None]:
    """Within, the environment has what the job's blocks hold. Raises StopRun or UsageError, which tell no value."""
    wanted: dict[str, str | None] = {}
    if job.key_block:
        wanted |= {_key_variable(job): _text(job.key_block)}
    if job.storage_block:
        wanted |= dict.fromkeys(REPLACED) | _aws_variables(job.storage_block)
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    if job.storage_block:
        s3_filesystem.cache_clear()
    try:
        yield
    finally:
        _set(before)
        if job.storage_block:
            s3_filesystem.cache_clear()


def _key_variable(job: Job) -> str:
    try:
        where = endpoint(job.endpoint_name)
    except LookupError as error:
        raise UsageError(f"endpoint: {error.args[0]}") from None
    if not where.key_env:
        raise UsageError(f"key_block: the endpoint {where.name} needs no key.")
    return where.key_env


def _aws_variables(name: str) -> dict[str, str]:
    value = _value(name)
    try:
        variables = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        variables = None
    fits = isinstance(variables, dict) and all(isinstance(one, str) for one in variables.values())
    if not fits or not set(NEEDED) <= variables.keys() <= set(REPLACED):
        raise StopRun(
            f'The Secret block {name} must hold JSON: {{"{NEEDED[0]}": "...", "{NEEDED[1]}": "..."}}, with these two, '
            f"and at most {', '.join(REPLACED[2:])}."
        )
    return dict(variables)


def _text(name: str) -> str:
    value = _value(name)
    if not isinstance(value, str) or not value.strip():
        raise StopRun(f"The Secret block {name} must hold a key as text.")
    return value.strip()


def _value(name: str) -> Any:
    from prefect.blocks.system import Secret

    try:
        load: Any = Secret.load  # typed as if it could not be told to wait
        block = load(name, _sync=True)
    except ValueError:
        raise StopRun(
            f"There is no Secret block {name} in Prefect. Create it under Blocks, or leave the field empty and set the "
            "key where `visionflow serve` or the worker starts."
        ) from None
    return block.get()


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
