"""The models and prices the simulator knows, read from the client's TOML files but by its own code, and its errors."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

REQUEST_ERROR = "invalid_request_error"

MILLION = Decimal(1_000_000)

# Fixed thinking, from the overview pages of these models: forced tool use and disabled thinking are a 400.
NO_FORCED_TOOLS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1", "claude-fable-5-2")
THINKING_CANNOT_BE_DISABLED = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-")


class ApiError(Exception):
    """A request answered with an error status and the API's error body.

    Statuses and types: https://platform.claude.com/docs/en/api/errors
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.details = details
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body, as the SDK parses it."""
        error: dict[str, Any] = {"type": self.error_type, "message": self.message}
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"type": "error", "error": error, "request_id": request_id}


def bad_request(message: str, *, details: Mapping[str, Any] | None = None) -> ApiError:
    """A 400: the same request would be refused again."""
    return ApiError(400, REQUEST_ERROR, message, details=details)


@dataclass(frozen=True, slots=True)
class Vision:
    """The size a model sees at most, and how many more tokens its tokenizer makes of the same text."""

    max_edge: int
    max_tokens: int
    text_percent: int


VISION = {"high": Vision(2576, 4784, 130), "standard": Vision(1568, 1568, 100)}


@dataclass(frozen=True, slots=True)
class ListPrice:
    """USD per token, for prompts of at most `up_to` or more than `over` tokens."""

    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    us: Decimal | None
    up_to: int | None
    over: int | None

    def holds(self, prompt_tokens: int) -> bool:
        """Whether this is the row for a prompt of that many tokens, cached ones included."""
        return (self.up_to is None or prompt_tokens <= self.up_to) and (self.over is None or prompt_tokens > self.over)


@dataclass(frozen=True, slots=True)
class Model:
    """What the simulator knows about one model."""

    id: str
    vision: Vision
    max_output: int
    thinks: bool
    takes_effort: bool
    cache_min: int | None
    retired: date | None
    prices: tuple[ListPrice, ...]

    @property
    def takes_geography(self) -> bool:
        """Whether `inference_geo` may be set: the models that have a price for it."""
        return any(price.us is not None for price in self.prices)

    def is_retired(self) -> bool:
        """Whether requests fail today."""
        return self.retired is not None and self.retired <= datetime.now(UTC).date()

    def info(self, asked: str) -> dict[str, Any]:
        """The body of GET /v1/models/{id}: `ModelInfo` of the SDK."""

        def supported(yes: bool) -> dict[str, bool]:
            return {"supported": yes}

        effort = {level: supported(self.takes_effort) for level in ("low", "medium", "high", "xhigh", "max")}
        always = self.id.startswith(THINKING_CANNOT_BE_DISABLED)
        thinking = {
            "adaptive": supported(self.thinks),
            "between_tools": supported(self.thinks),
            "disabled": supported(not always),
            "enabled": supported(not self.thinks),
        }
        retires_at = None if self.retired is None else f"{self.retired.isoformat()}T00:00:00Z"
        return {
            "type": "model",
            "id": asked,
            "display_name": f"{self.id} (simulated)",
            "created_at": "2026-01-01T00:00:00Z",
            "line": self.id.split("-")[1],
            "lifecycle": "active" if self.retired is None else "retired" if self.is_retired() else "deprecated",
            "deprecated_at": retires_at,
            "retires_at": retires_at,
            "max_input_tokens": 200_000,
            "max_tokens": self.max_output,
            "capabilities": {
                "batch": supported(False),
                "citations": supported(False),
                "code_execution": supported(False),
                "context_management": {"supported": False},
                "effort": {"supported": self.takes_effort, **effort},
                "image_input": supported(True),
                "pdf_input": supported(False),
                "server_tools": supported(False) | dict.fromkeys(("code_execution", "web_search"), supported(False)),
                "structured_outputs": supported(True),
                "thinking": {"supported": True, "types": thinking},
            },
        }


def find_model(asked: str) -> Model:
    """The model of this id or alias; a 404 for one that is unknown or retired."""
    model = known_models().get(asked)
    if model is None:
        raise ApiError(404, "not_found_error", f"model: {asked}")
    if model.is_retired():
        raise ApiError(404, "not_found_error", f"model: {asked} (retired on {model.retired})")
    if not model.prices:
        raise ApiError(404, "not_found_error", f"model: {asked} (the simulator cannot bill it: no row in prices.toml)")
    return model


@cache
def known_models() -> Mapping[str, Model]:
    """Every model of models.toml, by id and by alias."""
    table = _read("models.toml")
    rows: list[dict[str, Any]] = _read("prices.toml")["price"]
    models: dict[str, Model] = {}
    for name, facts in table.items():
        if name == "default":  # stands for other vendors' models, which this API does not have
            continue
        model = Model(
            id=name,
            vision=VISION[facts["vision"]],
            max_output=facts["max_output"],
            thinks=facts["thinking"],
            takes_effort=facts["effort"],
            cache_min=facts.get("cache_min"),
            retired=facts.get("retired"),
            prices=tuple(_price(row) for row in rows if row["endpoint"] == "anthropic" and row["model"] == name),
        )
        models.update(dict.fromkeys([name, *facts.get("aliases", [])], model))
    return models


def _price(row: Mapping[str, Any]) -> ListPrice:
    classes = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    rates = {name: Decimal(row[name]) / MILLION for name in classes}
    us = Decimal(row["us_factor"]) if "us_factor" in row else None
    return ListPrice(**rates, us=us, up_to=row.get("up_to"), over=row.get("over"))


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("config").joinpath(name).read_text(encoding="utf-8"))
