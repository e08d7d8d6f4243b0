"""What the simulator refuses as the API does."""

import asyncio
import contextlib
import io
from decimal import Decimal
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import ImageDimensionsTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.simulator import Simulator
from tasks.simulator.catalogue import ApiError
from tasks.simulator.content import media_type_of, size_of
from tasks.simulator.rules import read_question
from tests.runs import examples
from tests.simulator_requests import (
    body_of,
    client_of,
    encoded,
    image_block,
    picture,
    post,
)


@pytest.mark.parametrize(
    ("headers", "status", "error_type"),
    [
        ({"x_api_key": ""}, 401, "authentication_error"),
        ({"x_api_key": "sk-invalid"}, 401, "authentication_error"),
        ({"x_api_key": "", "authorization": "Bearer  "}, 401, "authentication_error"),
        ({"x_api_key": "", "authorization": "Bearer key"}, 200, None),
        ({"anthropic_version": ""}, 400, "invalid_request_error"),
        ({"anthropic_version": "2020-01-01"}, 400, "invalid_request_error"),
        ({"anthropic_version": "2023-06-01"}, 200, None),
    ],
)
def test_credentials_and_version(simulator: Simulator, headers: dict[str, str], status: int, error_type: str) -> None:
    got, got_headers, body = post(simulator, body_of(), **headers)
    assert got == status
    assert got_headers["visionflow-simulated"] == "true"
    assert got_headers["request-id"].startswith("req_simulated_")
    if error_type:
        assert body["type"] == "error"
        assert body["error"]["type"] == error_type
        assert body["request_id"] == got_headers["request-id"]
        assert simulator.ledger().billed == 0


TEXT_BLOCK = {"type": "text", "text": "Hello"}


CACHED = {"type": "text", "text": "word " * 3000, "cache_control": {"type": "ephemeral"}}


REFUSED_BODIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "temperature": (body_of(temperature=0), 400, "temperature"),
    "top_p": (body_of(top_p=1), 400, "top_p"),
    "unknown parameter": (body_of(colour="red"), 400, "colour: Extra inputs are not permitted"),
    "unknown block key": (body_of(image_block(picture(), detail="high")), 400, "detail: Extra inputs"),
    "streaming": (body_of(stream=True), 400, "does not stream"),
    "unknown model": (body_of(model="claude-haiku-9"), 404, "claude-haiku-9"),
    "retired model": (body_of(model="claude-sonnet-4-20250514"), 404, "retired"),
    "another vendor's model": (body_of(model="default"), 404, "default"),
    "no max_tokens": ({k: v for k, v in body_of().items() if k != "max_tokens"}, 400, "max_tokens: Field required"),
    "too many max_tokens": (body_of(max_tokens=64001), 400, "64001 > 64000"),
    "no messages": (body_of() | {"messages": []}, 400, "at least one message"),
    "prefill": (
        body_of() | {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "{"}]},
        400,
        "prefill",
    ),
    "empty text": (body_of(prompt="  "), 400, "non-whitespace"),
    "thinking enabled": (body_of(thinking={"type": "enabled", "budget_tokens": 2000}), 400, "not supported"),
    "thinking disabled": (body_of(model="claude-opus-5-5", thinking={"type": "disabled"}), 400, "not supported"),
    "effort": (body_of(model="claude-haiku-4-5", output_config={"effort": "low"}), 400, "effort"),
    "forced tool": (body_of(model="claude-opus-5-5", tool_choice={"type": "any"}), 400, "forced tool use"),
    "geography": (body_of(model="claude-haiku-4-5", inference_geo="us"), 400, "inference_geo"),
    "five cache breakpoints": (body_of(system=[CACHED] * 5), 400, "maximum of 4"),
    "odd cache ttl": (body_of(system=[TEXT_BLOCK | {"cache_control": {"type": "ephemeral", "ttl": "2h"}}]), 400, "ttl"),
}


@pytest.mark.parametrize("case", REFUSED_BODIES)
def test_a_request_the_api_refuses(simulator: Simulator, case: str) -> None:
    body, status, part = REFUSED_BODIES[case]
    got, _, answer = post(simulator, body)
    assert (got, answer["type"]) == (status, "error")
    assert part in answer["error"]["message"]
    entry = simulator.ledger().entries[-1]
    assert (entry.http_status, entry.billed, entry.cost_usd) == (status, False, Decimal(0))


JPEG = encoded(Image.new("RGB", (40, 30)))


LARGE_NOISE = b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x1e\x00\x28" + bytes(7_500_010)


REFUSED_IMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong media type": (image_block(JPEG, "image/png"), "appears to be a image/jpeg image"),
    "media type not taken": (image_block(JPEG, "image/tiff"), "media_type"),
    "a type that is no image type": (image_block(b"BM" + bytes(100), "image/png"), "Could not process image"),
    "header cut short": (image_block(JPEG[:30], "image/jpeg"), "Could not process image"),
    "nothing": (image_block(b""), "cannot be empty"),
    "no base64": ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "@@"}}, "base64"),
    "base64 above 10 MB": (image_block(LARGE_NOISE, "image/jpeg"), "exceeds 10 MB"),
    "a URL": ({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}, "fetches nothing"),
    "larger than seen": (
        image_block(picture(size=(3840, 2160)), transformations={"oversized_image": "error"}),
        "scale the image to at most 2576x1449",
    ),
}


@pytest.mark.parametrize("case", REFUSED_IMAGES)
def test_an_image_the_api_refuses(simulator: Simulator, case: str) -> None:
    block, part = REFUSED_IMAGES[case]
    status, _, answer = post(simulator, body_of(block))
    assert status == 400
    assert part in answer["error"]["message"]


def test_too_many_pixels_are_an_error_of_their_own(simulator: Simulator) -> None:
    panorama = encoded(Image.new("1", (8001, 10)), "PNG")
    wide = encoded(Image.new("1", (2001, 10)), "PNG")
    with client_of(simulator) as client:
        with pytest.raises(ImageDimensionsTooLargeError) as error:
            client.messages.create(**body_of(image_block(panorama)))
        client.messages.create(**body_of(*[image_block(wide)] * 20))
        with pytest.raises(ImageDimensionsTooLargeError) as error_of_many:
            client.messages.create(**body_of(*[image_block(picture())] * 20, image_block(wide)))
    assert error.value.details.max_side_length_pixels == 8000
    assert error_of_many.value.details.max_side_length_pixels == 2000
    assert error_of_many.value.details.paths == ["messages.0.content.20"]


def test_a_body_above_32_mb_is_too_large_and_leaves_nothing_behind() -> None:
    """What the server does not read of it has a task, of whose end somebody else would hear later."""
    with Simulator() as simulator:
        status, _, answer = post(simulator, b" " * (32 * 1024 * 1024 + 1))
    assert (status, answer["error"]["type"]) == (413, "request_too_large")
    assert simulator._loop and asyncio.all_tasks(simulator._loop) == set()


def test_a_doubled_v1_is_not_found(simulator: Simulator) -> None:
    with (
        Anthropic(api_key="key", base_url=f"{simulator.url}/v1", max_retries=0) as client,
        pytest.raises(anthropic.NotFoundError, match="/v1/v1/messages"),
    ):
        client.messages.create(**body_of())


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (301, 1999)])
@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
    ],
)
def test_image_headers_agree_with_pillow(image_format: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(buffer, image_format, **options)
    data = buffer.getvalue()
    assert media_type_of(data) == f"image/{image_format.lower()}"
    assert size_of(data, f"image/{image_format.lower()}") == size


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "source", "data", "ttl", "schema", "format"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=examples(300))
@given(
    st.sampled_from([*body_of(), "system", "tools", "thinking", "output_config", "cache_control", "tool_choice"]), JUNK
)
def test_junk_in_any_parameter_is_refused_like_the_api_does_or_taken(parameter: str, junk: Any) -> None:
    with contextlib.suppress(ApiError):  # anything else would be a crash
        read_question(body_of() | {parameter: junk})
