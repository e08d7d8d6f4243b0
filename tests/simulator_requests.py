"""Requests for the simulator: through the SDK, or a plain socket where the SDK would hide things."""

import base64
import http.client
import io
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from anthropic import Anthropic
from PIL import Image

from tasks.simulator import Simulator

MODEL = "claude-haiku-5-5"


def encoded(image: Image.Image, image_format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def picture(number: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    return encoded(Image.new("RGB", size, (number % 256, number // 256 % 256, 77)), "PNG")


def image_block(data: bytes, media_type: str = "image/png", **more: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {"type": "image", "source": source, **more}


def body_of(*blocks: dict[str, Any], prompt: str = "What is this?", **parameters: Any) -> dict[str, Any]:
    content = [*(blocks or [image_block(picture())]), {"type": "text", "text": prompt}]
    return {"model": MODEL, "max_tokens": 4000, "messages": [{"role": "user", "content": content}], **parameters}


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def strict(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def text_of(message: Any) -> str:
    return str(next(block.text for block in message.content if block.type == "text"))


def client_of(simulator: Simulator, **options: Any) -> Anthropic:
    return Anthropic(api_key="key", base_url=simulator.url, max_retries=0, **options)


def post(simulator: Simulator, body: Any, path: str = "/v1/messages", **headers: str) -> tuple[int, Any, Any]:
    """One request without the SDK: status, headers, body."""
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=20)
    all_headers = {"x-api-key": "key", "anthropic-version": "2026-10-21"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, payload, {name: value for name, value in all_headers.items() if value})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, response.headers, json.loads(text) if is_json else text


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
