"""Asking the endpoint how many tokens a prompt has, which is free."""

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

from config.endpoints import Endpoint
from tasks.asking.client import make_client
from tasks.asking.question import Question, request
from tasks.billing.tokens import PATCH
from tasks.billing.usage import MOST_TOKENS
from tasks.errors import EndpointError
from tasks.types import PreparedImage
from tasks.waiting import completed

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


def counted_prompt(endpoint: Endpoint, question: Question) -> int | None:
    """Tokens of the prompt without its image; None where the endpoint cannot tell or no key is set."""
    if not endpoint.count_tokens:
        return None
    try:
        return completed(_count(endpoint, question))
    except EndpointError:  # no key: an estimate needs none
        return None


async def refuses(client: "AsyncAnthropic", question: Question) -> bool:
    """Whether the endpoint refuses the question itself, asked about a sound image."""
    import anthropic

    params = request(question, one_patch())
    params.pop("max_tokens")
    try:
        await client.messages.with_raw_response.count_tokens(**params)
    except anthropic.BadRequestError:
        return True
    except anthropic.APIError:  # it cannot tell
        return False
    return False


async def _count(endpoint: Endpoint, question: Question) -> int | None:
    import anthropic

    params = request(question, one_patch())
    params.pop("max_tokens")
    async with make_client(endpoint, concurrency=1, timeout=20.0) as client:
        try:
            counted = await client.messages.count_tokens(**params)
        except (anthropic.APIError, ValueError, RecursionError):  # or it answers with what is no JSON
            return None
    tokens = getattr(counted, "input_tokens", None)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 < tokens <= MOST_TOKENS:
        return None
    return tokens - 1  # the patch is one token


def one_patch() -> PreparedImage:
    """A white PNG of one patch: an image of one token."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", PATCH, PATCH, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\x00" + b"\xff" * PATCH) * PATCH)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return PreparedImage(1, png, "image/png", hashlib.sha256(png).hexdigest(), PATCH, PATCH, "PNG", PATCH, PATCH)
