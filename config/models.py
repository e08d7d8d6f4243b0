"""Facts about models that change what is sent (models.toml)."""

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import ClassVar, Literal

from config.user_files import load, typed

# (longest side in pixels, most visual tokens) after which the server itself shrinks an image.
VISION_TIERS = {"standard": (1568, 1568), "high": (2576, 4784)}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model sees, how much it may answer, and which options it takes."""

    name: str
    vision: Literal["standard", "high"]
    max_output: int
    thinking: bool
    effort: bool
    cache_min: int | None = None
    retired: date | None = None
    listed: bool = True
    aliases: tuple[str, ...] = ()

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @property
    def vision_limits(self) -> tuple[int, int]:
        """Longest side in pixels and most tokens of one image."""
        return VISION_TIERS[self.vision]


@cache
def model_facts(model: str) -> ModelFacts:
    """Facts of a model or of one of its aliases; those of [default] for a model that is not listed."""
    table = load("models")
    for name, facts in table.items():
        if name != "default" and (model == name or model in facts.get("aliases", ())):
            return typed(ModelFacts, {**facts, "name": name}, table="models", name=name)
    return typed(ModelFacts, {**table["default"], "name": model, "listed": False}, table="models", name="default")


def listed_models() -> list[str]:
    """Every model of models.toml, newest first as the file has them."""
    return [name for name in load("models") if name != "default"]
