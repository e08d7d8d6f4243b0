"""Presets by use case: what is sent and how it is asked (presets.toml)."""

from dataclasses import dataclass

from config.tables import known, load


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


def preset(name: str) -> Preset:
    """The preset of this name; LookupError names those there are."""
    table = load("presets")
    if name not in table:
        raise LookupError(f"There is no preset {name!r}. Take one of: {known(list(table))}.")
    return Preset(name=name, **{**table[name], "prompt": table[name]["prompt"].strip()})


def preset_names() -> list[str]:
    """Every preset, in the order of presets.toml."""
    return list(load("presets"))
