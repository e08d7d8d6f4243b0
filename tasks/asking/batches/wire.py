"""Message Batches over the wire. Nothing here is tried twice, and nothing is sent to another host.

A batch says itself where its results are (`results_url`). Behind a gateway that may be another host, to which the key
must not go; so results are asked of the endpoint, at the path where the API has them.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.endpoints import Endpoint
from tasks.asking.batches.packing import Body
from tasks.asking.client import secrets_of
from tasks.asking.failures import classify
from tasks.errors import AnswerError, EndpointError
from tasks.storage import files
from tasks.storage.output import explained

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

PATH = "/v1/messages/batches"
PAGE = 100
NEW_OR_EMPTY = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
MOST_RESULT_BYTES = 8_000_000_000  # and no more than its requests may have been answered with
MOST_PAGES, LIST_S = 1000, 600.0  # of a list, which would else go on as long as the endpoint liked
RESULTS_S = 1800.0  # for all of a batch's results, which have some megabytes: one that drips is given up
REQUEST_STATES = ("processing", "succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """A batch as the endpoint describes it."""

    id: str
    ended: bool
    requests: int
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    archived: bool

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended and self.ended_at else None

    @classmethod
    def of(cls, body: Any) -> "MessageBatch":
        """From the API's JSON; AnswerError where it is none of the API's."""
        try:
            counts = [int(body["request_counts"][kind]) for kind in REQUEST_STATES]
            batch = cls(
                body["id"],
                body["processing_status"] == "ended",
                sum(counts),
                _time(body["created_at"]),
                _time(body["expires_at"]) if body.get("expires_at") else None,
                _time(body["ended_at"]) if body.get("ended_at") else None,
                bool(body.get("archived_at")),
            )
        except (KeyError, TypeError, ValueError):
            raise AnswerError(
                "malformed_answer", "The endpoint describes a batch in a way that is not the API's."
            ) from None
        if not isinstance(batch.id, str) or not batch.id.replace("_", "").replace("-", "").isalnum():
            raise AnswerError("malformed_answer", "The endpoint names a batch by what is no name.")
        return batch


class Wire:
    """The calls about batches, each made once. Raises what the SDK raises, and AnswerError."""

    def __init__(self, client: "AsyncAnthropic") -> None:
        self._client = client

    async def create(self, body: Body) -> MessageBatch:
        """Submit."""
        headers = {"content-type": "application/json", "content-length": str(body.size)}
        made = await self._client.post(
            PATH, cast_to=object, content=body, options={"headers": headers, "max_retries": 0}
        )
        return MessageBatch.of(made)

    async def retrieve(self, batch_id: str) -> MessageBatch:
        """How it is now."""
        batch = MessageBatch.of(await self._client.get(f"{PATH}/{batch_id}", cast_to=object))
        if batch.id != batch_id:  # its results would be somebody else's
            raise AnswerError("malformed_answer", "The endpoint describes another batch than it was asked about.")
        return batch

    async def cancel(self, batch_id: str) -> MessageBatch:
        """Answer no more of it; what was answered is billed, and can be collected once it has ended."""
        return MessageBatch.of(await self._client.post(f"{PATH}/{batch_id}/cancel", cast_to=object))

    async def since(self, earliest: datetime) -> list[MessageBatch]:
        """Batches created since then, the newest first."""
        try:
            async with asyncio.timeout(LIST_S):
                return await self._pages_since(earliest)
        except TimeoutError:
            raise AnswerError("malformed_answer", f"The list of batches did not end within {LIST_S:.0f} s.") from None

    async def _pages_since(self, earliest: datetime) -> list[MessageBatch]:
        found: list[MessageBatch] = []
        after = ""
        for _ in range(MOST_PAGES):
            query = f"?limit={PAGE}" + (f"&after_id={after}" if after else "")
            page: Any = await self._client.get(f"{PATH}{query}", cast_to=object)
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise AnswerError("malformed_answer", "The endpoint lists batches in a way that is not the API's.")
            batches = [MessageBatch.of(body) for body in page["data"]]
            found += [batch for batch in batches if batch.created_at >= earliest]
            if not page.get("has_more") or not batches or batches[-1].created_at < earliest:
                return found
            if after == batches[-1].id:
                raise AnswerError("malformed_answer", "The endpoint lists the same batches again and again.")
            after = batches[-1].id
        raise AnswerError("malformed_answer", "The endpoint lists batches without end.")

    async def results(self, batch_id: str, path: Path, most_bytes: int) -> None:
        """Write the results into a private file, whole or not at all. OutputError if the disk does not take them.

        AnswerError if they have more than `most_bytes`, or do not come in time.
        """
        most_bytes = min(most_bytes, MOST_RESULT_BYTES)
        partial = path.with_name(f"{path.name}.part")
        with explained(str(partial)):
            handle = files.open_private(partial, NEW_OR_EMPTY)
        try:
            size = 0
            async with asyncio.timeout(RESULTS_S):
                async for piece in self._result_pieces(batch_id):
                    size += len(piece)
                    if size > most_bytes:
                        raise AnswerError("too_large", f"The results have more than {most_bytes / 1e6:,.0f} MB.")
                    with explained(str(partial)):
                        files.write_all(handle, piece)
            partial.replace(path)
        except TimeoutError:
            raise AnswerError("truncated_body", f"The results did not come within {RESULTS_S:.0f} s.") from None
        finally:
            os.close(handle)
            partial.unlink(missing_ok=True)

    async def _result_pieces(self, batch_id: str) -> AsyncIterator[bytes]:
        from anthropic import APIConnectionError
        from anthropic._constants import RAW_RESPONSE_HEADER  # the public way to a stream goes to `results_url`
        from httpx2 import HTTPError, Request

        options: Any = {"headers": {RAW_RESPONSE_HEADER: "stream"}}
        response: Any = await self._client.get(f"{PATH}/{batch_id}/results", cast_to=object, options=options)
        try:
            async for piece in response.iter_bytes(1 << 16):
                yield piece
        except HTTPError as error:  # which the SDK wraps only where it reads the answer itself
            raise APIConnectionError(request=Request("GET", f"{PATH}/{batch_id}/results")) from error
        finally:
            await response.close()


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment


def without_batches(where: Endpoint) -> str:
    """That an endpoint has none, and what to do."""
    return f"{where.base_url} has no Message Batches. Leave --mode out: calls are made online."


def cancelling(where: Endpoint, names: list[str]) -> str:
    """A line for a shell that cancels these batches; the key is left to the environment."""
    sent = [f"x-api-key: ${where.key_env}"] if where.auth != "bearer" else []
    sent += [f"Authorization: Bearer ${where.key_env}"] if where.auth != "x-api-key" else []
    headers = [f'-H "{header}"' for header in ("anthropic-version: 2023-06-01", *(sent if where.key_env else []))]
    ids = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"  # curl itself reads what is in braces
    return f"curl -X POST {' '.join(headers)} '{where.base_url.rstrip('/')}{PATH}/{ids}/cancel'"


async def check_batches(client: "AsyncAnthropic", where: Endpoint) -> None:
    """Ask for one batch, which is free: EndpointError where the endpoint has none, or does not tell."""
    import anthropic

    try:
        found: Any = await client.get(f"{PATH}?limit=1", cast_to=object)
    except anthropic.APIStatusError as error:
        if error.status_code in (404, 405, 501):
            raise EndpointError(without_batches(where)) from None
        failure = classify(error, secrets_of(where))
        raise EndpointError(
            f"{where.base_url} does not list Message Batches ({failure.status} {failure.error_type}: "
            f"{failure.message}). Check what this key may do, or leave --mode out."
        ) from None
    except (anthropic.APIError, ValueError, RecursionError):
        raise EndpointError(
            f"{where.base_url} does not list Message Batches. Try again, or leave --mode out: calls are made online."
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise EndpointError(without_batches(where))
