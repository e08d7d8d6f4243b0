"""The SDK's client for an endpoint, and the free questions asked of it before the first paid call."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from config.endpoints import Endpoint
from config.settings import is_loopback, plain_http_allowed
from tasks.asking.failures import redirected
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError, EndpointError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

SIMULATED_HEADER = "visionflow-simulated"


def api_key(endpoint: Endpoint) -> str:
    """The endpoint's key from its environment variable; EndpointError if there is none that a header can hold."""
    if not endpoint.key_env:
        return "simulated"
    key = os.environ.get(endpoint.key_env, "").strip()
    if not key:
        raise EndpointError(
            f"No key for {endpoint.name}: the environment variable {endpoint.key_env} is empty. "
            f"Set it (export {endpoint.key_env}=...), or try `visionflow demo`, which needs none."
        )
    if not key.isprintable() or " " in key:
        raise EndpointError(
            f"The key in {endpoint.key_env} has a space, a line end or another sign in it that no key has. "
            "Set it again."
        )
    return key


def secrets_of(endpoint: Endpoint) -> Secrets:
    """What must never come back from this endpoint: its key, if it has one."""
    return Secrets(os.environ.get(endpoint.key_env, "").strip() if endpoint.key_env else "")


def make_client(
    endpoint: Endpoint, *, concurrency: int, timeout: float, max_tokens: int = 0, streams: bool = False
) -> "AsyncAnthropic":
    """A client whose retries are off (the engine decides) and which sends the key as the endpoint reads it.

    `timeout` is for one answer in all, in seconds; `max_tokens`, the most that will be asked for, bounds its size.
    With `streams`, whoever asks for a stream reads it, and bounds it.
    EndpointError, before anything is sent, for a key that is missing or would go over the network in plain text.
    """
    from anthropic import AsyncAnthropic, omit

    from tasks.asking.http import EndpointClient, StreamingClient, answer_bytes

    _keep_images_out_of_logs()
    key = api_key(endpoint)
    refuse_plain_http(endpoint)
    headers: dict[str, Any] = {}
    if endpoint.auth in ("x-api-key", "both"):
        headers["x-api-key"] = key
    if endpoint.auth == "x-api-key":
        headers["Authorization"] = omit
    http_client = (StreamingClient if streams else EndpointClient)(
        endpoint.base_url, seconds=timeout, most_bytes=answer_bytes(max_tokens), connections=concurrency + 8
    )
    return AsyncAnthropic(
        api_key=key,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=http_client.timeout,
        default_headers=headers,
        http_client=http_client,
        open_telemetry=False,  # a tracer of Prefect's would send its headers along to the gateway
    )


def refuse_plain_http(endpoint: Endpoint) -> None:
    """EndpointError where the key and the images would cross a network for everybody on the way to read."""
    parts = urlsplit(endpoint.base_url)
    if parts.scheme != "http" or not endpoint.key_env or is_loopback(parts.hostname or ""):
        return
    if not (endpoint.insecure or plain_http_allowed()):
        raise EndpointError(
            f"{endpoint.base_url} is plain http to another machine: the key and the images could be read on the way. "
            "Take its https address, or allow it with VISIONFLOW_ALLOW_HTTP=1 or `insecure = true` in endpoints.toml."
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
    except anthropic.APIConnectionError as error:
        raise EndpointError(unreachable(endpoint, error)) from None
    except anthropic.APIStatusError as error:
        _stop_if_refused(error, endpoint, model)
        return Checked(endpoint, simulated=False, model_known=False)
    if raw.headers.get(SIMULATED_HEADER) == "true":
        return Checked(replace(endpoint, name="simulator", caching=True), simulated=True, model_known=True)
    return Checked(endpoint, simulated=False, model_known="json" in raw.headers.get("content-type", ""))


def _stop_if_refused(error: Any, endpoint: Endpoint, model: str) -> None:
    """EndpointError where the answer is about every call: a key, a model, an address that is another's."""
    status, headers, secrets = error.status_code, error.response.headers, secrets_of(endpoint)
    said = secrets.out_of(error.api_message)
    if status == 401:
        raise EndpointError(_refused_key(endpoint, status, said)) from None
    if status == 403:
        raise EndpointError(f"{endpoint.base_url} forbids this key the model {model} ({said}).") from None
    has_models = endpoint.has_models_api or headers.get(SIMULATED_HEADER) == "true"
    if status == 404 and getattr(error, "type", None) == "not_found_error" and has_models:
        raise EndpointError(_unknown_model(endpoint, model)) from None
    if 300 <= status < 400:
        url, location = str(error.request.url), headers.get("location", "")
        # A gateway without models may send a browser to its website; one that sends calls away keeps their path.
        if urlsplit(location).path.endswith(f"/v1/models/{model}"):
            raise EndpointError(f"{endpoint.base_url} {redirected(status, url, location, secrets)}") from None


def unreachable(endpoint: Endpoint, error: Exception) -> str:
    """What the SDK's connection error means to a person."""
    cause = error.__cause__
    if isinstance(cause, AnswerError):
        return f"{endpoint.base_url} cannot be asked: {cause}"
    reason = type(cause or error).__name__
    return (
        f"Cannot reach {endpoint.base_url} ({reason}). Check the address (--endpoint or ANTHROPIC_BASE_URL) "
        "and the network."
    )


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


T = TypeVar("T")


def completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. In a notebook or an async flow, whose loop is running, it gets a thread and a loop."""
    if not _is_loop_running():
        return asyncio.run(_interruptible(coroutine))
    with ThreadPoolExecutor(1, thread_name_prefix="visionflow-completed") as thread:
        return thread.submit(copy_context().run, asyncio.run, coroutine).result()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """Ctrl-C cancels what the loop waits for; a callback that comes a moment later finds it done, which is no error."""
    asyncio.get_running_loop().set_exception_handler(_unless_cancelled)
    return await coroutine


def _unless_cancelled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)
