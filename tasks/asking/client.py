"""The SDK's client for an endpoint, and the free questions asked of it before the first paid call."""

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from config.endpoints import Endpoint
from tasks.asking.failures import without_secrets
from tasks.errors import EndpointError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

SIMULATED_HEADER = "visionflow-simulated"


def api_key(endpoint: Endpoint) -> str:
    """The endpoint's key from its environment variable; EndpointError if there is none."""
    if not endpoint.key_env:
        return "simulated"
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key:
        raise EndpointError(
            f"No key for {endpoint.name}: the environment variable {endpoint.key_env} is empty. "
            f"Set it (export {endpoint.key_env}=...), or try `visionflow demo`, which needs none."
        )
    return key


def make_client(endpoint: Endpoint, *, concurrency: int, timeout: float) -> "AsyncAnthropic":
    """A client whose retries are off (the engine decides) and which sends the key as the endpoint reads it."""
    from anthropic import AsyncAnthropic, DefaultAioHttpClient, Timeout, omit
    from httpx2 import Limits

    _keep_images_out_of_logs()
    key = api_key(endpoint)
    headers: dict[str, Any] = {}
    if endpoint.auth in ("x-api-key", "both"):
        headers["x-api-key"] = key
    if endpoint.auth == "x-api-key":
        headers["Authorization"] = omit
    limits = Limits(max_connections=concurrency + 8, max_keepalive_connections=concurrency + 8)
    return AsyncAnthropic(
        api_key=key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=Timeout(timeout, connect=min(timeout, 10.0)),
        default_headers=headers,
        http_client=DefaultAioHttpClient(limits=limits),
        open_telemetry=False,  # a tracer of Prefect's would send its headers along to the gateway
    )


def _keep_images_out_of_logs() -> None:
    """With ANTHROPIC_LOG=debug the SDK would log each request, image and all."""
    logger = logging.getLogger("anthropic")
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the endpoint said of itself and the model before anything was paid."""

    endpoint: Endpoint
    simulated: bool
    model_known: bool


async def check_endpoint(client: "AsyncAnthropic", endpoint: Endpoint, model: str) -> Checked:
    """Ask for the model, which is free: EndpointError for a wrong key, address or model.

    An endpoint without the models resource leaves the model unknown; the first call then goes alone.
    """
    import anthropic

    try:
        raw = await client.models.with_raw_response.retrieve(model)
    except anthropic.AuthenticationError as error:
        raise EndpointError(_refused_key(endpoint, error.status_code, _said(error, client))) from None
    except anthropic.PermissionDeniedError as error:
        raise EndpointError(
            f"{endpoint.base_url} forbids this key the model {model} ({_said(error, client)})."
        ) from None
    except anthropic.NotFoundError as error:
        if getattr(error, "type", None) == "not_found_error":
            simulated = error.response.headers.get(SIMULATED_HEADER) == "true"
            if simulated or endpoint.has_models_api:
                raise EndpointError(_unknown_model(endpoint, model)) from None
        return Checked(endpoint, simulated=False, model_known=False)
    except anthropic.APIConnectionError as error:
        reason = type(error.__cause__).__name__ if error.__cause__ else type(error).__name__
        raise EndpointError(
            f"Cannot reach {endpoint.base_url} ({reason}). Check the address (--endpoint or ANTHROPIC_BASE_URL) "
            "and the network."
        ) from None
    except anthropic.APIStatusError:
        return Checked(endpoint, simulated=False, model_known=False)
    if raw.headers.get(SIMULATED_HEADER) == "true":
        return Checked(replace(endpoint, name="simulator", caching=True), simulated=True, model_known=True)
    return Checked(endpoint, simulated=False, model_known="json" in raw.headers.get("content-type", ""))


def _said(error: Any, client: "AsyncAnthropic") -> str:
    """What the endpoint said; some gateways repeat the key that they refuse."""
    return without_secrets(" ".join(str(error.api_message).split()), client.api_key or "")


def _refused_key(endpoint: Endpoint, status: int, said: str) -> str:
    sent = {"bearer": "Authorization: Bearer", "x-api-key": "x-api-key", "both": "both headers"}[endpoint.auth]
    return (
        f"{endpoint.base_url} refuses the key ({status} {said}). "
        f"Check {endpoint.key_env or 'the key'}; it was sent as {sent}."
    )


def _unknown_model(endpoint: Endpoint, model: str) -> str:
    return (
        f"{endpoint.base_url} does not know the model {model!r} (404). "
        "Check --model; `visionflow prices` lists those with a price."
    )
