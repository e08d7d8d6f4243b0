"""A job: everything a user decides about a run, and what is wrong with it in words; and what a comparison varies.

It is the flow's parameter, so it is also the form in Prefect's UI.
"""

import os
import re
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from config.form import arranged, flat
from config.user_files import read_text

DEFAULT_MODEL = "claude-haiku-5-5"
TEXTS = ("prompt", "system", "fallback_prompt")  # fields that the command line and job files may take from `@FILE`
BLOCK_NAME = "^[a-z0-9-]+$"  # as Prefect names blocks
# A job's name is a folder, `job=NAME`, whose type readers of the tables guess: a name that reads as a number or a date,
# as `inf` and `epoch` do in DuckDB, would not merge with the column `job`, and `/`, `=` or `%` would be decoded
# differently by each reader. Sixty letters of any alphabet fit into a file's name.
JOB_NAME = re.compile(r"(?!(inf|infinity|epoch)$)[^\W\d_][\w.-]{0,59}", re.IGNORECASE)

WRONG = {
    "extra_forbidden": "is a setting that does not exist",
    "literal_error": "is not one of {expected}",
    "greater_than": "is not allowed: it must be more than {gt}",
    "greater_than_equal": "is not allowed: it must be at least {ge}",
    "less_than_equal": "is not allowed: it must be at most {le}",
    "string_too_short": "is empty",
    "string_type": "is no text; put it in quotes",
    "tuple_type": "is no list",
    "value_error": "{error}",
    "decimal_max_places": "has more than {decimal_places} decimals",
    "string_pattern_mismatch": "is no name of a block: it has small letters, digits and dashes",
    "model_type": "is no job, which has settings by name",
}
WRONG_KINDS = {
    "int": "is no whole number",
    "float": "is no number",
    "decimal": "is no number",
    "finite": "is no number",
    "bool": "is neither true nor false",
}


class Job(BaseModel):
    """What to ask about every image, of whom, how fast, and for how much."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    name: str | None = Field(None, description="Names the job's folder in the output; the source's last part if empty.")
    preset: str = Field("ocr", description="Use case: ocr, object_detection, classification, or one of your own.")
    prompt: str | None = Field(None, description="The question; the preset's if empty.")
    system: str | None = Field(None, description="System prompt, the same for every image.")
    answer_schema: str | None = Field(
        None, alias="schema", description="A ready schema's name, FILE.json, or package.module:Model."
    )
    labels: tuple[str, ...] = Field((), description="Classify into exactly these labels.")
    model: str = Field(DEFAULT_MODEL, description="Model that answers.")
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, description="Room for the answer; the preset's if empty.")
    effort: Literal["low", "medium", "high", "xhigh", "max"] = Field("low", description="How much the model thinks.")
    fallback_prompt: tuple[str, ...] = Field((), description="Asked in turn when an answer does not fit.")
    fallback_model: tuple[str, ...] = Field((), description="Asked in turn after the fallback prompts.")
    verify: str | None = Field(
        None, min_length=1, description="Read every image twice: the second model, or `again` for the same one."
    )
    verify_below: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Read twice only answers that look less sure, 0 to 1."
    )
    evidence: bool = Field(False, description="Ask where on the image each value stands; needs a schema.")
    endpoint: str | None = Field(None, description="Name or URL; ANTHROPIC_BASE_URL or Anthropic itself if empty.")
    key_block: str | None = Field(
        None,
        pattern=BLOCK_NAME,
        description="Prefect Secret block with the endpoint's key; the environment's if empty.",
    )
    storage_block: str | None = Field(
        None, pattern=BLOCK_NAME, description="Prefect Secret block with the AWS variables as JSON."
    )
    concurrency: int = Field(50, ge=1, le=1000, description="Calls in flight.")
    rps: float | None = Field(None, ge=0.001, le=10_000, allow_inf_nan=False, description="Most calls a second.")
    rpm: float | None = Field(None, ge=0.1, le=600_000, allow_inf_nan=False, description="Most calls a minute.")
    attempts: int = Field(5, ge=1, le=20, description="Calls for one image before it counts as unavailable.")
    timeout: float = Field(180, gt=0, le=3600, allow_inf_nan=False, description="Seconds for one answer, in all.")
    max_cost: Decimal | None = Field(None, ge=0, le=1_000_000_000, description="US dollars this run may spend.")
    max_cost_per_day: Decimal | None = Field(
        None,
        ge=0,
        le=1_000_000_000,
        description="US dollars that all runs of this job with this output may spend in one day (UTC).",
    )
    limit: int | None = Field(None, ge=1, description="Only the first so many images.")
    include: tuple[str, ...] = Field((), description="Only files that match one of these globs.")
    exclude: tuple[str, ...] = Field((), description="No file that matches one of these globs.")
    mode: Literal["online", "batch", "auto"] = Field(
        "online", description="batch: Message Batches, at half the price; auto: batches as long as the deadline allows."
    )
    deadline: float | None = Field(
        None, gt=0, le=8760, allow_inf_nan=False, description="With auto: hours in which all must be answered."
    )
    max_failed: float = Field(
        0, ge=0, le=1, allow_inf_nan=False, description="Share of failed rows, 0 to 1, above which the run has failed."
    )
    no_wait: bool = Field(False, description="With batches: submit and leave; the same job, run later, collects.")
    no_thumbnails: bool = Field(False, description="No small pictures of the images in the report.")
    refresh: bool = Field(False, description="Ask again even where an answer is kept.")
    unpriced: Literal["stop", "allow"] = Field("stop", description="What to do with a model that has no price.")
    cny_per_usd: Decimal | None = Field(
        None, gt=0, le=1_000_000, decimal_places=9, description="Yuan for one dollar; the endpoint's if empty."
    )
    pool: str | None = Field(None, description="Prefect work pool whose workers share the run as a fleet.")
    shards: int | None = Field(
        None, ge=1, le=999, description="Flow runs that a pool's workers share the run in; 2 if empty."
    )
    global_limit: str | None = Field(None, description="Prefect global concurrency limit to take per task run.")

    @model_validator(mode="before")
    @classmethod
    def _from_a_form(cls, values: Any) -> Any:
        return flat(values)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What the form in Prefect's UI is made of."""
        schema = handler(core_schema)
        told = handler.resolve_ref_schema(schema)
        form = arranged(told, cls.model_fields)
        told.clear()
        told.update(form)
        return schema

    @field_validator("name")
    @classmethod
    def _named_like_a_folder(cls, name: str | None) -> str | None:
        if name is not None and not JOB_NAME.fullmatch(name):
            raise ValueError(
                "must start with a letter and hold only letters, digits, '.', '-' and '_', at most 60 in all; "
                "'inf', 'infinity' and 'epoch' are taken"
            )
        return name

    @field_validator("shards")
    @classmethod
    def _of_a_pool(cls, shards: int | None, others: ValidationInfo) -> int | None:
        if shards is not None and not others.data.get("pool"):
            raise ValueError("is the number of parts for a work pool: name that with --pool")
        return shards

    @property
    def endpoint_name(self) -> str:
        """The endpoint to call: the job's, else ANTHROPIC_BASE_URL, else Anthropic."""
        return self.endpoint or os.environ.get("ANTHROPIC_BASE_URL") or "anthropic"

    @property
    def calls_per_second(self) -> float | None:
        """The lower of the job's two rates."""
        rates = [rate for rate in (self.rps, self.rpm / 60 if self.rpm else None) if rate]
        return min(rates, default=None)


def job_name(source: str) -> str:
    """A job's name from its source: the last part of the path, made fit for a folder."""
    last = re.split(r"[/\\]", source.split("*")[0].rstrip("/\\"))[-1]
    # Composed, for a file system may give accents as characters of their own, which are no letters.
    slug = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", Path(last).stem)).strip("-._")[:60]
    if not slug:
        return "images"
    return slug if JOB_NAME.fullmatch(slug) else f"job-{slug}"[:60]


def with_texts(job: Job) -> Job:
    """The job with the text of every `@FILE`, for who sits at this machine: a form must not read its files.

    Raises ValueError, which names the field and says why the file cannot be read.
    """
    texts: dict[str, object] = {}
    for field in TEXTS:
        value = getattr(job, field)
        try:
            texts[field] = tuple(map(text_or_file, value)) if isinstance(value, tuple) else text_or_file(value)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
    return job.model_copy(update=texts)


def text_or_file(value: str | None) -> str | None:
    """`@FILE` stands for the file's text. Raises ValueError if it cannot be read."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return read_text(value[1:]).strip()
    except OSError as error:
        raise ValueError(f"{value!r} cannot be read: {error.strerror}") from None
    except ValueError:  # other bytes than UTF-8, or a name that no file can have
        raise ValueError(f"{value!r} cannot be read: it is no text in UTF-8") from None


def mistake(problem: Any) -> str:
    """The value of one of pydantic's errors, and what is wrong with it; that of an unknown setting may be a key."""
    kind, value = problem["type"], repr(problem["input"])
    if kind == "extra_forbidden":
        value = "this"
    said = WRONG.get(kind) or WRONG_KINDS.get(kind.partition("_")[0])
    context = {name: str(one).removesuffix(".0") for name, one in problem.get("ctx", {}).items()}
    if "expected" in context:
        context["expected"] = context["expected"].replace(" or ", ", ")
    said = said.format(**context) if said else problem["msg"]
    return f"{value if len(value) <= 80 else value[:80] + '...'} {said}"


class Choices(BaseModel):
    """Every combination of model, preset and prompt is a variant; an empty choice is the job's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    truth: str | None = Field(None, description="Labels: .jsonl, .csv, .parquet, a folder of NAME.json, Label Studio.")
    models: tuple[str, ...] = Field((), description="Models to compare.")
    presets: tuple[str, ...] = Field((), description="Presets to compare.")
    prompts: tuple[str, ...] = Field((), description="Prompts to compare.")
    tolerance: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="A loss of score that does not matter.")
