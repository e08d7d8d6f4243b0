"""The HTTP server: the API's endpoints, and the simulator's own under /simulator."""

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tasks.errors import UsageError
from tasks.simulator.batch_routes import BatchRoutes, Handler
from tasks.simulator.batches import Shelf
from tasks.simulator.catalogue import ApiError, bad_request, find_model, known_models
from tasks.simulator.faults import Settings, parse_faults
from tasks.simulator.lies import DRIP_S, MISBEHAVING, bomb, drip, encoded, flood, redirect
from tasks.simulator.metering import prompt_tokens
from tasks.simulator.rules import check_headers, read_question
from tasks.simulator.service import Call, Service, settings_from
from tasks.simulator.usage_reports import ReportRoutes

MAX_BODY = 32 * 1024 * 1024
MARK = {"visionflow-simulated": "true", "anthropic-organization-id": "simulated"}
PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1>simulated</body></html>"
LOGIN_PAGE = "<!doctype html><html><head><title>Sign in</title></head><body>Please sign in. (simulated)</body></html>"
FOREIGN = {"object": "chat.completion", "choices": [{"message": {"content": "simulated"}}], "created": 0}
STOP_S = 0.2
BACKLOG = 1024


class HttpServer:
    """The simulator on a socket; lives in the event loop that starts it."""

    def __init__(self, settings: Settings) -> None:
        self.service = Service(settings)
        self._shelf = Shelf(self.service)
        self.url = ""
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._refused])
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        BatchRoutes(self.service, self._shelf, MARK).add_to(app.router)
        ReportRoutes(self.service, MARK).add_to(app.router)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{id}", self._model)
        app.router.add_get("/simulator/health", self._health)
        app.router.add_get("/simulator/ledger", self._ledger)
        app.router.add_get("/simulator/requests", self._requests)
        app.router.add_post("/simulator/faults", self._set_faults)
        app.router.add_post("/simulator/reset", self._reset)
        app.router.add_route("*", "/{path:.*}", self._unknown_path)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)

    async def start(self) -> str:
        """Listen; gives the URL. UsageError when the port is taken."""
        settings = self.service.settings
        await self._runner.setup()
        site = web.TCPSite(self._runner, settings.host, settings.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            message = f"The simulator cannot listen on {settings.host}:{settings.port} ({error.strerror})."
            raise UsageError(f"{message} Choose another --port, or 0 for any free one.") from None
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self.url

    async def stop(self) -> None:
        """Answer no more; requests under way are cut."""
        self._stopping.set()
        await self._runner.cleanup()
        if self.service.reader is not None:
            self.service.reader.close()

    def let_go(self) -> int:
        """Answer now what waits for its latency; how many requests have come until then."""
        self._shelf.let_go()
        self.service.let_go()
        return self.service.book.read(entries=False).requests

    def reset(self) -> None:
        """As just started, with the present settings; what was read in images is still known."""
        self._shelf.clear()
        self.service.reset()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        service = self.service
        with service.book.flight() as index:
            call = service.call(index)
            try:
                body = await _read_body(request)
                check_headers(request.headers)
                answer = await service.answer(call, _parse(body))
            except (ConnectionError, web.RequestPayloadError):
                service.finish(call, 0, "client_gone", delivered=False)
                return _cut(request)
            except ApiError as error:
                outcome = call.fault.name if call.fault.name != "ok" else "refused"
                service.finish(call, error.status, outcome, delivered=_is_open(request))
                return self._error(error, call.request_id)
            if answer is None:
                return await self._fail(request, call)
            delivered = _is_open(request)
            service.finish(call, 200, call.fault.name, delivered=delivered)
            message = answer.message(call.message_id, call.question.asked_model if call.question else "")
            return self._json(
                encoded(message, call.fault.name), headers={"request-id": call.request_id, **service.limits.headers()}
            )

    async def _fail(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Answer with something that is no answer, or not at all."""
        name = call.fault.name
        pages = {"html": (502, PROXY_PAGE), "html200": (200, LOGIN_PAGE)}
        if name in pages:
            status, page = pages[name]
            self.service.finish(call, status, name, delivered=_is_open(request))
            return web.Response(status=status, text=page, content_type="text/html", headers=MARK)
        if name == "foreign":
            self.service.finish(call, 200, name, delivered=_is_open(request))
            return self._json(json.dumps(FOREIGN))
        if name in MISBEHAVING:
            return await self._misbehave(request, call)
        if name == "hang":
            await self._hang(request, call)
        self.service.finish(call, 0, name, delivered=False)
        return _cut(request)

    async def _misbehave(self, request: web.Request, call: Call) -> web.StreamResponse:
        name, seconds = call.fault.name, call.fault.seconds
        self.service.finish(call, 307 if name == "redirect" else 200, name, delivered=False)
        if name == "redirect":
            return redirect(self.service.settings.elsewhere, MARK)
        if name == "bomb":
            return bomb(MARK)
        if name == "flood":
            return await flood(request)
        pause = DRIP_S if seconds is None else seconds
        return await drip(request, pause, lambda: _is_open(request) and not self._stopping.is_set())

    async def _hang(self, request: web.Request, call: Call) -> None:
        """Keep silent until the client gives up, the time is over or the server stops."""
        seconds = call.fault.seconds if call.fault.seconds is not None else self.service.settings.hang_s
        until = asyncio.get_running_loop().time() + seconds
        while _is_open(request) and not self._stopping.is_set() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)

    async def _count_tokens(self, request: web.Request) -> web.Response:
        request_id = self.service.request_id(self.service.book.count())
        try:
            body = await _read_body(request)
            check_headers(request.headers)
            tokens = prompt_tokens(read_question(_parse(body), counting=True))
        except ApiError as error:
            return self._error(error, request_id)
        return self._json(json.dumps({"input_tokens": tokens}), headers={"request-id": request_id})

    @web.middleware
    async def _refused(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever an endpoint refuses is told as the API tells it."""
        try:
            return await handler(request)
        except ApiError as error:
            return self._error(error, "req_simulated_refused")

    async def _models(self, request: web.Request) -> web.Response:
        check_headers(request.headers)
        models = [model.info(name) for name, model in known_models().items() if name == model.id]
        first, last = models[0]["id"], models[-1]["id"]
        return self._json(json.dumps({"data": models, "has_more": False, "first_id": first, "last_id": last}))

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        check_headers(request.headers)
        info = known_models()[name].info(name) if name in known_models() else find_model(name).info(name)
        return self._json(json.dumps(info), headers={"request-id": "req_simulated_models"})

    async def _health(self, _: web.Request) -> web.Response:
        settings = self.service.settings
        health = {"status": "ok", "url": self.url, "ocr": self.service.reader is not None, "faults": settings.faults}
        return self._json(json.dumps({**health, "latency": settings.latency}))

    async def _ledger(self, request: web.Request) -> web.Response:
        entries = request.query.get("entries", "1") != "0"
        return self._json(json.dumps(self.service.book.read(entries=entries).body(entries=entries)))

    async def _requests(self, request: web.Request) -> web.Response:
        limit = request.query.get("limit", "100")
        recent = list(self.service.recent)[-int(limit) :] if limit.isdecimal() and int(limit) else []
        return self._json(json.dumps(recent))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            body = _parse(await _read_body(request))
            if not isinstance(body, dict) or not isinstance(body.get("faults", ""), str):
                raise bad_request('Write {"faults": "429=0.1:2,529=0.05"}')
            changes = settings_from(body)
            parse_faults(body.get("faults", ""))
            if changes:
                self.service.change(**changes)
            self.service.set_faults(body.get("faults", ""), body.get("script", ()))
        except (ValueError, TypeError, AttributeError) as error:
            raise bad_request(str(error)) from None
        return await self._health(request)

    async def _reset(self, request: web.Request) -> web.Response:
        self.reset()
        return await self._health(request)

    async def _unknown_path(self, request: web.Request) -> web.Response:
        raise ApiError(404, "not_found_error", f"Not found: {request.method} {request.path}")

    def _error(self, error: ApiError, request_id: str) -> web.Response:
        headers = {"request-id": request_id, **self.service.limits.headers(), **error.headers}
        return self._json(json.dumps(error.body(request_id)), status=error.status, headers=headers)

    @staticmethod
    def _json(data: str | bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        return web.Response(
            body=data.encode() if isinstance(data, str) else data,
            status=status,
            content_type="application/json",
            headers={**MARK, **(headers or {})},
        )


async def _read_body(request: web.Request) -> bytes:
    too_large = ApiError(413, "request_too_large", f"Request exceeds the maximum size of {MAX_BODY} bytes")
    if (request.content_length or 0) > MAX_BODY:
        raise too_large
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("The request body is not valid JSON") from None


def _is_open(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _cut(request: web.Request) -> web.Response:
    """End the connection without a word of an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; `ready` is called once with the URL."""
    asyncio.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: Callable[[str], None]) -> None:
    server = HttpServer(settings)
    stop = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    ready(await server.start())
    try:
        await stop.wait()
    finally:
        await server.stop()
