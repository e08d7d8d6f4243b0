"""Prefect's server behind a proxy that lets no websocket through: events are lost, and nothing else."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from tasks.simulator import Simulator
from tests.runs import draw, end, rows, start

PATIENCE_S = 45  # more than such a run takes, less than Prefect's client would try again and again


@pytest.fixture
def without_websockets(prefect_server: str) -> Iterator[str]:
    """The session's server at another address, where an upgrade is not found."""
    address, loop = Future[str](), asyncio.new_event_loop()
    upgrades: list[str] = []

    async def forward(request: web.Request) -> web.Response:
        if "Upgrade" in request.headers:
            upgrades.append(request.path)
            raise web.HTTPNotFound
        url = prefect_server.removesuffix("/api") + request.raw_path
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Accept-Encoding")}
        async with ClientSession() as session:
            answer = await session.request(request.method, url, headers=headers, data=await request.read())
            kept = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def listen() -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.set_result("http://{}:{}/api".format(*runner.addresses[0]))

    def serve() -> None:
        loop.create_task(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield address.result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert upgrades, "events were tried"


def test_events_that_cannot_be_sent_cost_a_run_nothing(
    without_websockets: str, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", without_websockets)
    began = time.monotonic()
    ended = end(start("run", draw(tmp_path / "images", 6), "--output", tmp_path / "out", "--json"), 120)
    took = time.monotonic() - began
    assert (ended.status, ended.summary["ok"]) == (0, 6), ended.err
    assert len(rows(ended.summary)) == len(rows(ended.summary, "calls")) == 6
    assert "Traceback" not in ended.err and "rror" not in ended.err, ended.err
    assert took < ended.summary["seconds"] + PATIENCE_S
