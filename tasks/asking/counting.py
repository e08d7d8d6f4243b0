"""Asking the endpoint how many tokens a prompt has, which is free."""

import struct
import zlib

from config.endpoints import Endpoint
from tasks.asking.client import make_client
from tasks.asking.question import Question, request
from tasks.billing.tokens import PATCH
from tasks.errors import EndpointError
from tasks.types import PreparedImage
from tasks.waiting import completed


def counted_prompt(endpoint: Endpoint, question: Question) -> int | None:
    """Tokens of the prompt without its image; None where the endpoint cannot tell or no key is set."""
    if not endpoint.count_tokens:
        return None
    try:
        return completed(_count(endpoint, question))
    except EndpointError:  # no key: an estimate needs none
        return None


async def _count(endpoint: Endpoint, question: Question) -> int | None:
    import anthropic

    params = request(question, _one_patch())
    params.pop("max_tokens")
    async with make_client(endpoint, concurrency=1, timeout=20.0) as client:
        try:
            counted = await client.messages.count_tokens(**params)
        except anthropic.APIError:
            return None
    tokens = getattr(counted, "input_tokens", None)
    return tokens - 1 if isinstance(tokens, int) else None  # the patch is one token


def _one_patch() -> PreparedImage:
    """A white PNG of one patch: an image of one token."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", PATCH, PATCH, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\x00" + b"\xff" * PATCH) * PATCH)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return PreparedImage(1, png, "image/png", "", PATCH, PATCH, "PNG", PATCH, PATCH)
