"""The messages of a request: which blocks it holds, and whether the API would take its images.

An image's type and size are read from its first bytes here rather than by Pillow, so that the simulator is a second
opinion on what the client prepared, and takes microseconds for an image.

Limits: https://platform.claude.com/docs/en/build-with-claude/vision
"""

import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from struct import unpack_from
from typing import Any

from tasks.billing.usage import seen_size
from tasks.simulator.catalogue import ApiError, Model, bad_request

# Markers that start a frame, with its size: every SOFn, without the tables DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}

MAX_BASE64_BYTES = 10_000_000
MAX_EDGE = 8000
MANY_IMAGES = 20
MAX_EDGE_OF_MANY = 2000
MAX_IMAGES = 600
MAX_BREAKPOINTS = 4
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

BLOCK_KEYS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "transformations", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
}
SOURCE_KEYS = {"base64": {"type", "media_type", "data"}, "url": {"type", "url"}, "file": {"type", "file_id"}}


def media_type_of(data: bytes) -> str | None:
    """The media type the bytes really have, of the four the API takes; None for any other."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def size_of(data: bytes, media_type: str) -> tuple[int, int]:
    """Width and height in pixels; ValueError when the header is damaged or cut short."""
    readers = {"image/jpeg": _jpeg, "image/png": _png, "image/gif": _gif, "image/webp": _webp}
    try:
        return readers[media_type](data)
    except Exception as error:
        raise ValueError(f"damaged {media_type} header") from error


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise ValueError("no IHDR")
    width, height = unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    if len(data) < 14:
        raise ValueError("no image data")
    width, height = unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("not at a marker")
        marker = data[position + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = unpack_from(">HH", data, position + 5)
            return width, height
        else:
            position += 2 + int(unpack_from(">H", data, position + 2)[0])


def _webp(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise ValueError("no key frame")
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        if data[20] != 0x2F:
            raise ValueError("no VP8L signature")
        bits = unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if len(data) < 30:
            raise ValueError("cut short")
        return width, height
    raise ValueError("no VP8 chunk")


@dataclass(frozen=True, slots=True)
class Image:
    """One image as it arrived."""

    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class Block:
    """One content block: its text or its image, and how long it asks to be cached, in seconds."""

    text: str = ""
    image: Image | None = None
    cache_s: int | None = None

    @property
    def identity(self) -> bytes:
        """What a cached prefix is recognised by."""
        return self.image.sha256.encode() if self.image else self.text.encode()


def read_blocks(body: Mapping[str, Any], model: Model) -> tuple[list[Block], list[Block]]:
    """The blocks of tools and system, and those of the messages, in the order of the prompt; a 400 for a bad one."""
    fixed = [Block(text=json.dumps(tool), cache_s=_cache_seconds(tool, "tools")) for tool in body.get("tools") or []]
    system = body.get("system")
    if system is not None:
        fixed += [_block(content, path, model) for content, path in _contents(system, "system", text_only=True)]
    asked = _message_blocks(body.get("messages"), model)
    if body.get("cache_control") is not None and asked:
        asked[-1] = Block(asked[-1].text, asked[-1].image, _cache_seconds(body, "request"))
    if sum(block.cache_s is not None for block in [*fixed, *asked]) > MAX_BREAKPOINTS:
        raise bad_request(f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided.")
    _check_many_images(asked)
    return fixed, asked


def _message_blocks(messages: Any, model: Model) -> list[Block]:
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: at least one message is required")
    blocks: list[Block] = []
    for index, message in enumerate(messages):
        path = f"messages.{index}"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise bad_request(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
        if unknown := set(message) - {"role", "content"}:
            raise bad_request(f"{path}.{min(unknown)}: Extra inputs are not permitted")
        contents = list(_contents(message.get("content"), f"{path}.content", text_only=message["role"] == "system"))
        if not contents:
            raise bad_request(f"{path}: all messages must have non-empty content")
        if message["role"] != "user" and any(content.get("type") == "image" for content, _ in contents):
            raise bad_request(f"{path}.content: images are only allowed in user messages")
        blocks += [_block(content, block_path, model) for content, block_path in contents]
    if messages[0]["role"] == "assistant":
        raise bad_request("messages: first message must use the user role")
    if messages[-1]["role"] == "assistant":
        raise bad_request(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    return blocks


def _contents(content: Any, path: str, *, text_only: bool) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise bad_request(f"{path}: Input should be a string or a list of content blocks")
    for index, block in enumerate(content):
        block_path = f"{path}.{index}"
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in BLOCK_KEYS or (text_only and kind != "text"):
            raise bad_request(f"{block_path}.type: content block type {kind!r} is not one the simulator takes here")
        if unknown := set(block) - BLOCK_KEYS[kind]:
            raise bad_request(f"{block_path}.{kind}.{min(unknown)}: Extra inputs are not permitted")
        yield block, block_path


def _block(content: dict[str, Any], path: str, model: Model) -> Block:
    cache_s = _cache_seconds(content, path)
    if content["type"] == "image":
        return Block(image=_image(content, path, model), cache_s=cache_s)
    text = content.get("text", content.get("thinking"))
    if not isinstance(text, str):
        raise bad_request(f"{path}.text: Input should be a valid string")
    if not text.strip() and content["type"] == "text":
        raise bad_request(f"{path}: text content blocks must contain non-whitespace text")
    if content.get("citations"):
        raise bad_request(f"{path}.text.citations: not permitted on a user's text block")
    return Block(text=text, cache_s=cache_s)


def _cache_seconds(holder: Any, path: str) -> int | None:
    control = holder.get("cache_control") if isinstance(holder, dict) else None
    if control is None:
        return None
    if not isinstance(control, dict) or control.get("type") != "ephemeral" or set(control) - {"type", "ttl"}:
        raise bad_request(f"{path}.cache_control: Input should be {{'type': 'ephemeral', 'ttl': '5m' or '1h'}}")
    seconds = {"5m": 300, "1h": 3600}.get(str(control.get("ttl", "5m")))
    if seconds is None:
        raise bad_request(f"{path}.cache_control.ttl: Input should be '5m' or '1h'")
    return seconds


def _image(block: dict[str, Any], path: str, model: Model) -> Image:
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(source, dict) or not isinstance(kind, str) or kind not in SOURCE_KEYS:
        raise bad_request(f"{path}.image.source.type: Input should be 'base64', 'url' or 'file'")
    if unknown := set(source) - SOURCE_KEYS[kind]:
        raise bad_request(f"{path}.image.source.{kind}.{min(unknown)}: Extra inputs are not permitted")
    if kind == "url":
        raise bad_request("The simulator fetches nothing: send the image as base64.")
    if kind == "file":
        raise ApiError(404, "not_found_error", f"File not found: {source.get('file_id')}")
    image = _decode(source, path)
    if max(image.width, image.height) > MAX_EDGE:
        raise _too_large(MAX_EDGE, [path])
    _check_oversized(block.get("transformations"), image, path, model)
    return image


def _decode(source: Mapping[str, Any], block_path: str) -> Image:
    path = f"{block_path}.image.source.base64"
    declared, text = source.get("media_type"), source.get("data")
    if declared not in MEDIA_TYPES:
        raise bad_request(f"{path}.media_type: Input should be {', '.join(map(repr, MEDIA_TYPES))}")
    if not isinstance(text, str):
        raise bad_request(f"{path}.data: Input should be a valid string")
    if len(text) > MAX_BASE64_BYTES:
        raise bad_request(f"{path}: image exceeds 10 MB maximum: {len(text)} bytes > {MAX_BASE64_BYTES} bytes")
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise bad_request(f"{path}.data: Invalid base64 data") from None
    if not data:
        raise bad_request(f"{path}: image cannot be empty")
    real = media_type_of(data)
    if real is None:
        raise bad_request(f"{path}.data: Could not process image")
    if real != declared:
        raise bad_request(
            f"{path}.media_type: The image was specified using the {declared} media type, "
            f"but the image appears to be a {real} image"
        )
    try:
        width, height = size_of(data, real)
    except ValueError:
        raise bad_request(f"{path}.data: Could not process image") from None
    if width < 1 or height < 1:
        raise bad_request(f"{path}.data: Could not process image: it is {width}x{height} pixels")
    return Image(data, real, width, height, hashlib.sha256(data).hexdigest(), block_path)


def _check_oversized(transformations: Any, image: Image, path: str, model: Model) -> None:
    if transformations is None:
        return
    if not isinstance(transformations, dict) or set(transformations) - {"oversized_image"}:
        raise bad_request(f"{path}.image.transformations: Extra inputs are not permitted")
    wish = transformations.get("oversized_image", "downsize")
    if wish not in ("downsize", "error"):
        raise bad_request(f"{path}.image.transformations.oversized_image: Input should be 'downsize' or 'error'")
    vision = model.vision
    seen = seen_size(image.width, image.height, max_edge=vision.max_edge, max_tokens=vision.max_tokens)
    if wish == "error" and seen != (image.width, image.height):
        raise bad_request(f"{path}: image is too large for this model: scale the image to at most {seen[0]}x{seen[1]}")


def _check_many_images(blocks: list[Block]) -> None:
    images = [block.image for block in blocks if block.image]
    if len(images) > MAX_IMAGES:
        raise bad_request(f"messages: too many images: {len(images)} > {MAX_IMAGES}")
    if len(images) > MANY_IMAGES:
        large = [image.path for image in images if max(image.width, image.height) > MAX_EDGE_OF_MANY]
        if large:
            raise _too_large(MAX_EDGE_OF_MANY, large)


def _too_large(limit: int, paths: list[str]) -> ApiError:
    details = {"error_code": "image_dimensions_too_large", "max_side_length_pixels": limit, "paths": paths}
    return bad_request(f"{paths[0]}: image dimensions exceed the maximum of {limit} pixels a side", details=details)
