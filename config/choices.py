"""What a comparison varies, and what it holds answers against."""

from pydantic import BaseModel, ConfigDict, Field


class Choices(BaseModel):
    """Every combination of model, preset and prompt is a variant; an empty choice is the job's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    truth: str | None = Field(None, description="Labels: .jsonl, .csv, .parquet, a folder of NAME.json, Label Studio.")
    models: tuple[str, ...] = Field((), description="Models to compare.")
    presets: tuple[str, ...] = Field((), description="Presets to compare.")
    prompts: tuple[str, ...] = Field((), description="Prompts to compare.")
    tolerance: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="A loss of score that does not matter.")
