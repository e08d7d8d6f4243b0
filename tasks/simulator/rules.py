"""What the API refuses about a request as a whole: credentials, version, parameters.

Sources: https://platform.claude.com/docs/en/api/errors, .../api/versioning, .../build-with-claude/structured-outputs
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.simulator.catalogue import (
    NO_FORCED_TOOLS,
    THINKING_CANNOT_BE_DISABLED,
    ApiError,
    Model,
    bad_request,
    find_model,
)
from tasks.simulator.content import Block, Image, read_blocks
from tasks.simulator.schema_rules import check_schema

VERSIONS = ("2026-10-21", "2023-06-01")
EFFORTS = ("low", "medium", "high", "xhigh", "max")
SAMPLING = ("temperature", "top_p", "top_k")
COUNT_KEYS = frozenset(
    [
        "messages",
        "model",
        "cache_control",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
        "workspace_id",
    ]
)
CREATE_KEYS = COUNT_KEYS | frozenset(
    ["max_tokens", "container", "diagnostics", "inference_geo", "metadata", "service_tier", "stop_sequences", "stream"]
)


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """A request the API would take."""

    model: Model
    asked_model: str
    max_tokens: int
    fixed: tuple[Block, ...]
    asked: tuple[Block, ...]
    schema: Mapping[str, Any] | None
    effort: str
    thinks: bool
    geography: str

    @property
    def images(self) -> tuple[Image, ...]:
        """The images, in order."""
        return tuple(block.image for block in self.asked if block.image)

    @property
    def text(self) -> str:
        """Everything asked in words: system and prompt."""
        return "\n".join(block.text for block in [*self.fixed, *self.asked] if block.text)


def check_headers(headers: Mapping[str, str]) -> None:
    """A 401 without a usable key, a 400 without a known version."""
    bearer = headers.get("authorization", "")
    key = bearer[7:] if bearer.lower().startswith("bearer ") else headers.get("x-api-key", "")
    if not key.strip():
        raise ApiError(401, "authentication_error", "x-api-key or Authorization: Bearer header is required")
    if "invalid" in key:
        raise ApiError(401, "authentication_error", "invalid x-api-key")
    version = headers.get("anthropic-version")
    if version is None:
        raise bad_request("anthropic-version: header is required")
    if version not in VERSIONS:
        raise bad_request(f'anthropic-version: "{version}" is not a valid version')


def read_question(body: Any, *, counting: bool = False) -> MessagesRequest:
    """The question of a request's JSON body; an ApiError when the API would not take it.

    `counting` is for count_tokens, which takes fewer parameters and needs no max_tokens.
    """
    if not isinstance(body, dict):
        raise bad_request("Input should be a JSON object")
    _check_parameters(body, COUNT_KEYS if counting else CREATE_KEYS)
    asked_model = body.get("model")
    if not isinstance(asked_model, str) or not asked_model:
        raise bad_request("model: Field required")
    model = find_model(asked_model)
    max_tokens = 0 if counting else _max_tokens(body, model)
    effort, schema = _output_config(body.get("output_config"), model)
    thinks = _thinks(body.get("thinking"), model, max_tokens)
    _check_tools(body, model)
    fixed, asked = read_blocks(body, model)
    return MessagesRequest(
        model=model,
        asked_model=asked_model,
        max_tokens=max_tokens,
        fixed=tuple(fixed),
        asked=tuple(asked),
        schema=schema,
        effort=effort,
        thinks=thinks,
        geography=_geography(body.get("inference_geo"), model),
    )


def _check_parameters(body: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for name in SAMPLING:
        if name in body:
            raise bad_request(f"{name}: sampling parameters are not supported")
    if unknown := set(body) - allowed:
        raise bad_request(f"{min(unknown)}: Extra inputs are not permitted")
    if body.get("stream"):
        raise bad_request("stream: the simulator does not stream")
    if body.get("speed") not in (None, "standard"):
        raise bad_request("speed: the simulator only knows 'standard'")
    if body.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise bad_request("service_tier: Input should be 'auto' or 'standard_only'")


def _max_tokens(body: Mapping[str, Any], model: Model) -> int:
    value = body.get("max_tokens")
    if "max_tokens" not in body:
        raise bad_request("max_tokens: Field required")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise bad_request("max_tokens: Input should be a valid integer, 0 or greater")
    if value > model.max_output:
        raise bad_request(
            f"max_tokens: {value} > {model.max_output}, which is the maximum allowed number of output tokens "
            f"for {model.id}"
        )
    return value


def _output_config(config: Any, model: Model) -> tuple[str, Mapping[str, Any] | None]:
    if config is None:
        return "high", None
    if not isinstance(config, dict) or (unknown := set(config) - {"effort", "format"}):
        name = min(unknown) if isinstance(config, dict) else "type"
        raise bad_request(f"output_config.{name}: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is not None and effort not in EFFORTS:
        raise bad_request(f"output_config.effort: Input should be {', '.join(map(repr, EFFORTS))}")
    if effort is not None and not model.takes_effort:
        raise bad_request(f"output_config.effort: {model.id} does not support the effort parameter")
    schema = config.get("format")
    return effort or "high", None if schema is None else _schema(schema)


def _schema(output_format: Any) -> Mapping[str, Any]:
    if not isinstance(output_format, dict) or output_format.get("type") != "json_schema":
        raise bad_request("output_config.format.type: Input should be 'json_schema'")
    if unknown := set(output_format) - {"type", "schema"}:
        raise bad_request(f"output_config.format.{min(unknown)}: Extra inputs are not permitted")
    schema = output_format.get("schema")
    if not isinstance(schema, dict):
        raise bad_request("output_config.format.schema: Field required")
    check_schema(schema)
    return schema


def _thinks(thinking: Any, model: Model, max_tokens: int) -> bool:
    if thinking is None:
        return model.thinks
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if model.thinks:
            raise bad_request(f'thinking.type: "enabled" is not supported by {model.id}; use "adaptive"')
        if not isinstance(budget, int) or budget < 1024 or budget >= max_tokens:
            raise bad_request("thinking.budget_tokens: must be at least 1024 and less than max_tokens")
        return True
    if isinstance(thinking, dict) and "budget_tokens" in thinking:
        raise bad_request(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if kind == "disabled":
        if model.id.startswith(THINKING_CANNOT_BE_DISABLED):
            raise bad_request(f'thinking.type: "disabled" is not supported by {model.id}')
        return False
    if kind in ("adaptive", "between_tools") and model.thinks:
        return True
    raise bad_request(f"thinking.type: {kind!r} is not supported by {model.id}")


def _check_tools(body: Mapping[str, Any], model: Model) -> None:
    if not isinstance(body.get("tools") or [], list):
        raise bad_request("tools: Input should be a list")
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in ("any", "tool"):
        if model.id in NO_FORCED_TOOLS:
            raise bad_request(f"tool_choice: forced tool use is not supported by {model.id}")
        raise bad_request("tool_choice: the simulator calls no tools; use output_config.format")
    if kind not in ("auto", "none"):
        raise bad_request("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")


def _geography(wish: Any, model: Model) -> str:
    if wish is None:
        return "global"
    if wish not in ("us", "global"):
        raise bad_request("inference_geo: Input should be 'us' or 'global'")
    if not model.takes_geography:
        raise bad_request(f"inference_geo: not supported by {model.id}")
    return str(wish)
