"""The HTTP client under the SDK: it follows no redirect, ends at a deadline, and holds no endless answer.

The SDK reads a whole body whatever its size, and its time limit is for each read. Both are bounded here, for every
request that is made of an endpoint, the free ones before a run included.
"""

import asyncio
import ssl
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from anthropic import DefaultAioHttpClient
from httpx2 import Limits, ReadTimeout, Request, Response, Timeout, create_ssl_context

from config.settings import is_loopback
from tasks.errors import AnswerError

CONNECT_S = 10.0
# Bytes of an answer for each token it may take: 32 signs of six bytes each, such as \u2500, are one token at the most.
BYTES_A_TOKEN = 256
LEAST_BYTES, MOST_BYTES = 1_000_000, 32_000_000
# Of the message, but not of the bytes that are handed on: those are decoded.
ENCODINGS = (b"content-encoding", b"content-length", b"transfer-encoding")
MOST_COOKIES = 50


class EndpointClient(DefaultAioHttpClient):
    """Sends requests of the SDK. Every answer is read to its end, or given up, before `send` returns."""

    def __init__(self, address: str, *, seconds: float, most_bytes: int, connections: int) -> None:
        """`seconds` is the time for one answer in all; `most_bytes` counts its body, decoded."""
        connect = min(seconds * 0.8, CONNECT_S)  # over before the deadline, so that a call never sent is known as one
        host = urlsplit(address).hostname or ""
        options: dict[str, Any] = {}
        if is_loopback(host):  # a proxy of the environment is another machine: it cannot reach ours
            options["mounts"] = {f"all://{f'[{host}]' if ':' in host else host}": None}
        super().__init__(
            timeout=Timeout(seconds, connect=connect, pool=connect),
            limits=Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,  # key and image would go along
            verify=_trusted(),
            **options,
        )
        self._seconds = seconds
        self._most_bytes = most_bytes

    async def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:  # noqa: ARG002  # the SDK's word
        """The answer, read and decoded; ReadTimeout at the deadline, AnswerError for a body beyond the bound."""
        try:
            async with asyncio.timeout(self._seconds):
                response = await super().send(request, stream=True, **options)
                return await self._read(response, request)
        except TimeoutError as error:
            raise ReadTimeout("The deadline has passed.", request=request) from error

    async def _read(self, response: Response, request: Request) -> Response:
        """The same answer, read to its end."""
        body = await self._body(response)
        if len(self.cookies.jar) > MOST_COOKIES:
            self.cookies.clear()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in ENCODINGS]
        return Response(
            response.status_code, headers=headers, content=body, request=request, extensions=response.extensions
        )

    async def _body(self, response: Response) -> bytes:
        parts, size = [], 0
        try:
            async for part in response.aiter_bytes():  # decoded in pieces of a megabyte at most
                parts.append(part)
                size += len(part)
                if size > self._most_bytes:
                    raise AnswerError("too_large", f"The answer has more than {self._most_bytes / 1e6:.1f} MB.")
        finally:
            await response.aclose()
        return b"".join(parts)


class StreamingClient(EndpointClient):
    """The same for answers too large to hold: the time is until one begins, and then for each read of it."""

    async def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """A stream as it comes if one is wanted, an error's body read as ever."""
        if not stream:
            return await super().send(request, **options)
        response = await DefaultAioHttpClient.send(self, request, stream=True, **options)
        if response.is_success:
            return response
        try:
            async with asyncio.timeout(self._seconds):
                return await self._read(response, request)
        except TimeoutError as error:
            raise ReadTimeout("The deadline has passed.", request=request) from error


@cache
def _trusted() -> ssl.SSLContext:
    """The authorities that this machine trusts: reading them takes longer than the rest of a client."""
    return create_ssl_context()


def answer_bytes(max_tokens: int) -> int:
    """How many bytes an answer of so many tokens may have: a megabyte and 256 a token, 32 MB at the most."""
    return min(LEAST_BYTES + max_tokens * BYTES_A_TOKEN, MOST_BYTES)
