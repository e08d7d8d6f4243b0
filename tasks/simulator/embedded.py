"""The simulator in a thread of the calling process, for tests, benchmarks and the demo."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from tasks.simulator.faults import Script, Settings
from tasks.simulator.http_server import HttpServer
from tasks.simulator.ledger import Ledger

T = TypeVar("T")


class Simulator:
    """A running simulator: `with Simulator(latency=0.1, faults="429=0.2:1") as simulator: simulator.url`.

    Takes the fields of `Settings`, and a free port of 127.0.0.1 unless told otherwise.
    """

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        self.settings = replace(settings or Settings(), **options)
        self.url = ""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: HttpServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Listen, and give the URL; what goes wrong meanwhile is raised here."""
        started: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="simulator", daemon=True)
        self._thread.start()
        self.url = started.result()
        return self.url

    def stop(self) -> None:
        """Stop listening; requests under way are cut. The ledger can still be read."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def ledger(self, *, entries: bool = True) -> Ledger:
        """What was asked and billed so far."""
        return self._running().service.book.read(entries=entries)

    def requests(self) -> list[dict[str, Any]]:
        """The last thousand requests in words: question, images' sizes, outcome."""
        return list(self._running().service.recent)

    def set_faults(self, faults: str = "", *, script: Script = ()) -> None:
        """Fail like this from the next request on; without arguments, no more."""
        service = self._running().service
        self._in_loop(lambda: service.set_faults(faults, script))

    def change(self, **settings: Any) -> None:
        """Change latency, retry_after, seed or the rate limits from the next request on."""
        service = self._running().service
        self._in_loop(lambda: service.change(**settings))

    def let_go(self) -> int:
        """Answer now what waits for its latency, online and in batches; how many requests have come until then.

        Later ones wait as the settings say.
        """
        return self._in_loop(self._running().let_go)

    def reset(self) -> None:
        """Empty the ledger and the prompt cache, and begin the faults again."""
        self._in_loop(self._running().reset)

    def _running(self) -> HttpServer:
        if self._server is None:
            raise RuntimeError("the simulator is not running; use it in a `with` block")
        return self._server

    def _in_loop(self, action: Callable[[], T]) -> T:
        """Do it in the server's thread, so that no request sees half of it."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(action())
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                done.set_exception(error)

        if self._loop is None or self._thread is None or not self._thread.is_alive():
            return action()
        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _run(self, started: Future[str]) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            server = loop.run_until_complete(_create(self.settings))
            url = loop.run_until_complete(server.start())
        except Exception as error:  # noqa: BLE001 - raised again in the thread that called start
            loop.close()
            started.set_exception(error)
            return
        self._loop, self._server = loop, server
        started.set_result(url)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(server.stop())
            loop.run_until_complete(_end_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


async def _end_tasks() -> None:
    """End what is left of connections: whoever collects a task that has not ended logs a line about it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _create(settings: Settings) -> HttpServer:
    return HttpServer(settings)
