"""Presets by use case: what is sent and how it is asked (presets.toml); the schemas that come with the package."""

from dataclasses import dataclass, replace
from importlib.resources import files
from typing import ClassVar

from config.user_files import known, load, typed

READY = files("config") / "schemas"


@dataclass(frozen=True, slots=True)
class Preset:
    """One use case: longest side in pixels, JPEG quality, prompt, room for the answer, ready schema."""

    name: str
    max_edge: int
    quality: int
    prompt: str
    max_tokens: int
    typical_output: int = 500
    schema: str | None = None

    __pydantic_config__: ClassVar = {"extra": "forbid"}


def preset(name: str) -> Preset:
    """The preset of this name; LookupError names those there are."""
    table = load("presets")
    if name not in table:
        raise LookupError(f"There is no preset {name!r}. Take one of: {known(list(table))}.")
    chosen = typed(Preset, {**table[name], "name": name}, table="presets", name=name)
    return replace(chosen, prompt=chosen.prompt.strip())


def preset_names() -> list[str]:
    """Every preset, in the order of presets.toml, the user's own after them."""
    return list(load("presets"))


def ready_schemas() -> list[str]:
    """The names of the schemas that need no file."""
    return sorted(entry.name.removesuffix(".json") for entry in READY.iterdir() if entry.name.endswith(".json"))
