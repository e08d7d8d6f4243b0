"""Answers whose fields are nonsense, each under its name: billed like any other, and well-formed but for the one field.

usage_huge usage_endless usage_negative usage_float usage_fraction usage_text usage_list usage_true usage_nan
usage_infinite usage_beyond usage_number usage_null usage_missing cached_negative written_text lifetimes_list
thinking_huge tools_list tier_number place_list
                `usage`, or what it holds, cannot be true; the text is good
model_object model_long stop_number stop_list id_number
                another field is no name; the text is good
content_empty   no block at all, and no refusal
content_null content_text content_object content_missing block_text block_null block_untyped text_null text_number
text_missing array number null nothing deep digits error200
                no text that could be used

And responses of a server that means no good: without end, much too large, or sending the client elsewhere.
"""

import asyncio
import json
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from aiohttp import web

Message = dict[str, Any]
DEEP = 100_000  # nested lists
DIGITS = 5_000  # of one number

MISBEHAVING = ("drip", "flood", "bomb", "redirect")
DRIP_S = 1.0
PIECE = b"a" * 65536
FLOOD_BYTES, BOMB_BYTES = 300_000_000, 200_000_000
START = b'{"type":"message","usage":{"input_tokens":1,"output_tokens":1},"content":[{"type":"text","text":"'


def _usage(**fields: Any) -> Callable[[Message], Message]:
    return lambda message: {**message, "usage": {**message["usage"], **fields}}


def _with(**fields: Any) -> Callable[[Message], Message]:
    return lambda message: {**message, **fields}


def _without(field: str) -> Callable[[Message], Message]:
    return lambda message: {name: value for name, value in message.items() if name != field}


def _blocks(*blocks: Any) -> Callable[[Message], Message]:
    return _with(content=list(blocks))


LIES: dict[str, Callable[[Message], Any]] = {
    "usage_huge": _usage(input_tokens=10**15),
    "usage_endless": _usage(input_tokens=10**30),
    "usage_negative": _usage(input_tokens=-5000, output_tokens=-5000),
    "usage_float": _usage(input_tokens=1e20),
    "usage_fraction": _usage(input_tokens=100.5),
    "usage_text": _usage(input_tokens="100"),
    "usage_list": _usage(input_tokens=[1]),
    "usage_true": _usage(input_tokens=True),
    "usage_nan": _usage(input_tokens=float("nan")),
    "usage_infinite": _usage(output_tokens=float("inf")),
    "usage_beyond": _usage(output_tokens=9_000_000),  # more than any max_tokens
    "usage_number": _with(usage=7),
    "usage_null": _with(usage=None),
    "usage_missing": _without("usage"),
    "cached_negative": _usage(cache_read_input_tokens=-1),
    "written_text": _usage(cache_creation_input_tokens="many"),
    "lifetimes_list": _usage(cache_creation=[1, 2]),
    "thinking_huge": _usage(output_tokens_details={"thinking_tokens": 10**18}),
    "tools_list": _usage(server_tool_use=[1]),
    "tier_number": _usage(service_tier=5),
    "place_list": _usage(inference_geo=["us"]),
    "model_object": _with(model={}),
    "model_long": _with(model="m" * 100_000),
    "stop_number": _with(stop_reason=5),
    "stop_list": _with(stop_reason=["end_turn"]),
    "id_number": _with(id=5, role=None, stop_sequence={}),
    "content_empty": _blocks(),
    "content_null": _with(content=None),
    "content_text": _with(content="A receipt."),
    "content_object": _with(content={"type": "text", "text": "A receipt."}),
    "content_missing": _without("content"),
    "block_text": _blocks("A receipt."),
    "block_null": _blocks(None),
    "block_untyped": _blocks({"text": "A receipt."}),
    "text_null": _blocks({"type": "text", "text": None}),
    "text_number": _blocks({"type": "text", "text": 5}),
    "text_missing": _blocks({"type": "text"}),
    "array": lambda message: [message],
    "number": lambda _: 5,
    "null": lambda _: None,
    "error200": lambda _: {"type": "error", "error": {"type": "api_error", "message": "Upstream is away (simulated)"}},
}
# Bodies that no JSON encoder writes.
RAW: dict[str, bytes] = {
    "nothing": b"",
    "deep": b'{"content":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "digits": b'{"content":[],"usage":{"input_tokens":' + b"9" * DIGITS + b"}}",
}


def encoded(message: Message, fault: str) -> bytes:
    """The JSON of an answer, in the way of the fault."""
    if fault in RAW:
        return RAW[fault]
    data = json.dumps(LIES[fault](message) if fault in LIES else message).encode()
    return data[: len(data) // 2] if fault == "truncate" else data


async def drip(request: web.Request, seconds: float, goes_on: Callable[[], bool]) -> web.StreamResponse:
    """A space every so many seconds, as long as somebody listens: no single read ever times out."""
    response = await _begun(request)
    while goes_on():
        await response.write(b" ")
        await asyncio.sleep(seconds)
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    """300 MB of text."""
    response = await _begun(request)
    await response.write(START)
    for _ in range(FLOOD_BYTES // len(PIECE)):
        await response.write(PIECE)
    return response


def bomb(headers: dict[str, str]) -> web.Response:
    """200 MB of text that are 200 kB on the wire."""
    return web.Response(body=_bomb(), content_type="application/json", headers={**headers, "content-encoding": "gzip"})


def redirect(elsewhere: str, headers: dict[str, str]) -> web.Response:
    """A 307, which asks for the same body to be sent elsewhere."""
    return web.Response(status=307, headers={**headers, "location": f"{elsewhere}/v1/messages"})


async def _begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    return response


@cache
def _bomb() -> bytes:
    return b"".join(_compressed())


def _compressed() -> Iterator[bytes]:
    gzip = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    yield gzip.compress(START)
    for _ in range(BOMB_BYTES // len(PIECE)):
        yield gzip.compress(PIECE)
    yield gzip.flush()
