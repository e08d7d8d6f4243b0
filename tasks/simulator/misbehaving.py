"""Responses of a server that means no good: without end, much too large, or sending the client elsewhere."""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from aiohttp import web

NAMES = ("drip", "flood", "bomb", "redirect")
DRIP_S = 1.0
PIECE = b"a" * 65536
FLOOD_BYTES, BOMB_BYTES = 300_000_000, 200_000_000
START = b'{"type":"message","usage":{"input_tokens":1,"output_tokens":1},"content":[{"type":"text","text":"'


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
