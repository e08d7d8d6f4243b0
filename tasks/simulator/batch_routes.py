"""/v1/messages/batches over HTTP: create, retrieve, list, cancel, delete, results."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tasks.simulator.batches import ServedBatch, Shelf
from tasks.simulator.catalogue import ApiError, bad_request
from tasks.simulator.rules import check_headers
from tasks.simulator.service import Service

PATH = "/v1/messages/batches"
MOST_BYTES = 256_000_000
REQUEST_ID = "req_simulated_batches"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BatchRoutes:
    """The endpoints of Message Batches; `mark` are the headers that every answer of the simulator has."""

    def __init__(self, service: Service, shelf: Shelf, mark: dict[str, str]) -> None:
        self._service = service
        self._shelf = shelf
        self._mark = {**mark, "request-id": REQUEST_ID}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register them."""
        router.add_post(PATH, self._answering(self._create))
        router.add_get(PATH, self._answering(self._list))
        router.add_get(f"{PATH}/{{id}}", self._answering(self._retrieve))
        router.add_post(f"{PATH}/{{id}}/cancel", self._answering(self._cancel))
        router.add_delete(f"{PATH}/{{id}}", self._answering(self._delete))
        router.add_get(f"{PATH}/{{id}}/results", self._answering(self._results))

    def _answering(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.StreamResponse:
            if not self._service.settings.batches:
                raise ApiError(404, "not_found_error", f"Not found: {request.method} {request.path}")
            check_headers(request.headers)
            return await handler(request)

        return answered

    async def _create(self, request: web.Request) -> web.StreamResponse:
        batch, heard = self._shelf.create(await _body(request))
        if batch is None or not heard:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return self._json(self._shown(batch, request))

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        return self._json(self._shown(self._shelf.find(request.match_info["id"]), request))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        batches, more = self._shelf.listed(request.query)
        ids: list[str | None] = [batch.id for batch in batches] or [None]
        data = [self._shown(batch, request) for batch in batches]
        return self._json({"data": data, "has_more": more, "first_id": ids[0], "last_id": ids[-1]})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return self._json(self._shown(self._shelf.cancel(request.match_info["id"]), request))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        self._shelf.delete(request.match_info["id"])
        return self._json({"id": request.match_info["id"], "type": "message_batch_deleted"})

    async def _results(self, request: web.Request) -> web.StreamResponse:
        lines = self._shelf.results(request.match_info["id"])
        response = web.StreamResponse(headers={**self._mark, "content-type": "application/x-jsonl"})
        await response.prepare(request)
        for start in range(0, len(lines), 100):
            await response.write(b"".join(line + b"\n" for line in lines[start : start + 100]))
        return response

    def _shown(self, batch: ServedBatch, request: web.Request) -> dict[str, Any]:
        away = self._shelf.fault("elsewhere")
        host = self._service.settings.elsewhere if away else f"{request.scheme}://{request.host}"
        return batch.body(f"{host}{PATH}/{batch.id}/results")

    def _json(self, body: Any) -> web.Response:
        return web.json_response(body, headers=self._mark)


async def _body(request: web.Request) -> Any:
    """The JSON of a request of up to 256 MB, beyond what the other endpoints take."""
    data = bytearray()
    if (request.content_length or 0) <= MOST_BYTES:
        async for chunk in request.content.iter_any():
            data += chunk
            if len(data) > MOST_BYTES:
                break
    if len(data) > MOST_BYTES or (request.content_length or 0) > MOST_BYTES:
        raise ApiError(413, "request_too_large", f"Request exceeds the maximum size of {MOST_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise bad_request("The request body is not valid JSON") from None
