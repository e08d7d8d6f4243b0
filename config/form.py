"""The job as a form in Prefect's UI: what is needed first, the rest in groups that are folded until they are opened.

Only the JSON schema has groups. A job is flat everywhere else, and a deployment's stored parameters may be: `flat`
takes both. Prefect's forms (3.9, the old and the new) fold nothing but the alternatives of `anyOf`, which are tabs: a
group is `null` or an object. They show a wrong value inside an alternative as "not valid under any of the given
schemas", so bounds, and that a number is a whole one, stand beside it, under `then`, where the server's check names
the field and what is allowed. What is no setting is refused there too, before it is stored: it may be a key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from config.endpoints import endpoint_names
from config.models import listed_models
from config.presets import preset_names, ready_schemas
from config.prices import price_table
from config.user_files import ConfigError

FIRST = ("preset", "schema", "prompt", "max_cost")
TOLD = {  # where less may be given than elsewhere
    "schema": "Type of the answers.",
    "endpoint": "Whom to ask; the machine's is what ANTHROPIC_BASE_URL says where the run starts, or Anthropic.",
}


@dataclass(frozen=True)
class Group:
    """Fields that a person opens together."""

    name: str
    title: str
    fields: tuple[str, ...]


GROUPS = (
    Group(
        "asking",
        "Model and question",
        ("model", "effort", "system", "labels", "max_tokens", "fallback_prompt", "fallback_model"),
    ),
    Group("access", "Endpoint and keys", ("endpoint", "key_block", "storage_block")),
    Group("images", "Which images", ("limit", "include", "exclude", "refresh")),
    Group(
        "pace",
        "Speed and patience",
        (
            "mode",
            "deadline",
            "no_wait",
            "concurrency",
            "rps",
            "rpm",
            "attempts",
            "timeout",
            "global_limit",
            "pool",
            "shards",
        ),
    ),
    Group("money", "Money", ("max_cost_per_day", "unpriced", "cny_per_usd")),
    Group("checks", "Second readings", ("verify", "verify_below", "evidence")),
    Group("results", "Results", ("name", "max_failed", "no_thumbnails")),  # and whatever stands nowhere else
)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "maxLength", "minLength")


def flat(job: Any) -> Any:
    """The job without its groups; what a person sees in an opened group counts, not an older flat value."""
    if not isinstance(job, Mapping):
        return job
    values = dict(job)
    for group in GROUPS:
        inner = values.get(group.name)
        if group.name in values and (inner is None or isinstance(inner, Mapping)):
            del values[group.name]
            values |= {name: value for name, value in (inner or {}).items() if value is not None}
    return values


def arranged(schema: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The JSON schema of a job, whose properties are flat, as the form shows it. It takes the flat `fields` too."""
    choices, shown = _choices(), {}
    for name, told in schema["properties"].items():
        told = {**told, "description": TOLD.get(name, told.get("description"))}
        shown[name] = _shown(told, choices.get(name))
    properties = {name: shown.pop(name) for name in FIRST}
    for group in GROUPS:
        inner = {name: shown.pop(name) for name in group.fields if name in shown}
        if group is GROUPS[-1]:
            inner |= shown
        if inner:
            properties[group.name] = _folded(group, inner)
    known = {*fields, *schema["properties"], *properties}
    return {"title": "Job", "type": "object", "properties": _in_order(properties), **_no_other_than(known)}


def _shown(told: Mapping[str, Any], choices: "Alternatives | None") -> dict[str, Any]:
    """One field: an empty one is left out, so it has no alternative for that, and a number is no text."""
    shown = {name: value for name, value in told.items() if not (name == "default" and value is None)}
    kinds = [kind for kind in shown.pop("anyOf", ()) if kind != {"type": "null"}]
    numbers = [kind for kind in kinds if kind["type"] == "number"]
    shown |= (numbers or kinds or [{}])[0]
    if shown.get("title") == "Max Cost":  # stored parameters have it as text too
        shown["anyOf"] = [{"type": shown.pop("type"), "title": "US dollars"}, {"type": "string", "title": "as text"}]
    if choices is None:
        return shown
    if shown["type"] == "array":
        return {**shown, "items": {"type": "string", **({} if choices.own else {"enum": choices.names})}}
    return {**{name: value for name, value in shown.items() if name != "type"}, **choices.alternatives()}


@dataclass(frozen=True)
class Alternatives:
    """What a field may be chosen from; `none` says what an empty one means, `own` what a typed one is."""

    names: list[str]
    own: str | None = None
    none: str | None = None

    def alternatives(self) -> dict[str, Any]:
        """The tabs, or the list alone."""
        ready: dict[str, Any] = {"type": "string", "enum": self.names}
        if self.own is None and self.none is None:
            return ready
        tabs = [{"type": "null", "title": self.none}] if self.none else []
        tabs.append({**ready, "title": "from the list"})
        tabs += [{"type": "string", "title": self.own}] if self.own else []
        return {"anyOf": tabs, **({"default": None} if self.none else {})}


def _choices() -> dict[str, Alternatives]:
    try:
        priced = {price.model for price in price_table()}
        models = [model for model in listed_models() if model in priced]
        presets, endpoints = preset_names(), endpoint_names()
    except ConfigError:  # said when a run begins; the form can be without
        return {}
    return {
        "preset": Alternatives(presets, own="another"),
        "schema": Alternatives(ready_schemas(), own="another", none="plain text, or the preset's"),
        "model": Alternatives(models, own="another"),
        "endpoint": Alternatives(endpoints, own="another", none="the machine's"),
    }


def _folded(group: Group, properties: dict[str, Any]) -> dict[str, Any]:
    names = ", ".join(name.replace("_", " ") for name in properties)
    as_usual = {"type": "null", "title": "as usual"}
    loose = {name: _loose(told) for name, told in properties.items()}
    return {
        "title": group.title,
        "description": f"{names[0].upper()}{names[1:]}.",
        "default": None,
        "anyOf": [as_usual, {"type": "object", "title": "choose", "properties": _in_order(loose)}],
        "if": {"type": "object"},
        "then": {
            "properties": {name: _bounds(told) for name, told in properties.items()},
            **_no_other_than(properties),
        },
    }


def _no_other_than(names: Iterable[str]) -> dict[str, Any]:
    return {"propertyNames": {"enum": sorted(names)}}


def _loose(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a person cannot get wrong in the form."""
    kept = {key: one for key, one in told.items() if key not in BOUNDS}
    return {**kept, "type": "number"} if kept.get("type") == "integer" else kept


def _bounds(told: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"type": "integer"} if told.get("type") == "integer" else {}
    return {**whole, **{key: told[key] for key in BOUNDS if key in told}}


def _in_order(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**told, "position": at} for at, (name, told) in enumerate(properties.items())}
