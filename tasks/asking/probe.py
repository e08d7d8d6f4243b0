"""Asking about one sound image: how many tokens a prompt has, which is free, and whether the question itself is wrong.

When the first images all end the same way, it is the question, which is wrong for all, or the images. Answers that do
not fit are paid for, so ten of them are enough. Requests that are refused cost nothing, and damaged images may stand
first in a folder: then the same question is asked about a sound image, first by count_tokens, which is free. Where that
has nothing against it, a call decides: free where it is refused, else a row of `calls` like any other.
"""

import hashlib
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

from config.endpoints import Endpoint
from tasks.asking.caller import Caller, CallFailed
from tasks.asking.client import completed, make_client
from tasks.asking.halting import ALIKE_FAILURES
from tasks.asking.pages import EngineSettings, Outcome, Page
from tasks.asking.question import SECOND, Question, request
from tasks.billing.usage import MOST_TOKENS, PATCH
from tasks.errors import EndpointError, OutputError, SchemaError
from tasks.types import PreparedImage

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


async def counts(client: "AsyncAnthropic", question: Question) -> bool | None:
    """Whether the endpoint takes the question, asked about a sound image for free; None where it cannot tell."""
    import anthropic

    params = request(question, one_patch())
    params.pop("max_tokens")
    try:
        await client.messages.with_raw_response.count_tokens(**params)
    except anthropic.BadRequestError:
        return False
    except anthropic.APIError:
        return None
    return True


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


SOUND = "a white square, to try the question"  # as `image` in `calls`


class Doubts:
    """Watches how images end, for one engine."""

    def __init__(self, settings: EngineSettings, client: "AsyncAnthropic", caller: Caller) -> None:
        self._settings = settings
        self._client = client
        self._caller = caller

    async def look(self, outcome: Outcome) -> None:
        """After ten first outcomes like this one: SchemaError if the question must be wrong.

        That must not cost a thousand answers.
        """
        if outcome.status == "rejected" and not await self._is_refused(outcome):
            return
        of = "Second readings: " if outcome.step.number == SECOND else ""
        raise SchemaError(
            f"{of}The first {ALIKE_FAILURES} images all ended as {outcome.status} ({outcome.error}). "
            "Check the schema, the prompt and --max-tokens."
        )

    async def _is_refused(self, outcome: Outcome) -> bool:
        """Whether the question is refused about a sound image too."""
        if self._settings.endpoint.count_tokens and await counts(self._client, outcome.step.question) is False:
            return True
        try:
            tried = await self._caller.answer(Page(SOUND, one_patch()), outcome.step)
        except CallFailed as failed:
            return failed.status == "rejected"
        with suppress(OutputError):  # then the next call stops the run
            await tried.kept()  # nowhere: nobody wants to know, but it was paid
        return False
