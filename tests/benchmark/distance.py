"""A server on this machine, put as far away as one in another building: whatever is sent to it arrives later."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 2**18


@contextmanager
def farther(url: str, latency: float, note: Callable[[bytes], None] = lambda _: None) -> Iterator[str]:
    """The URL at which the server answers so many seconds later, on any number of connections at once.

    `note` is told what is sent to it.
    """
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_listen(url, latency, note, ready)), daemon=True)
    thread.start()
    port, loop, ended = ready.result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


async def _listen(
    url: str,
    latency: float,
    note: Callable[[bytes], None],
    ready: "Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]",
) -> None:
    there, ended = urlsplit(url), asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        except OSError:  # it is not there
            writer.close()
            return
        with closing(writer), closing(far_writer), suppress(asyncio.CancelledError):
            there_and_back = _carry(reader, far_writer, latency, note), _carry(far_reader, writer, 0.0, lambda _: None)
            await asyncio.gather(*there_and_back)

    server = await asyncio.start_server(carry, "127.0.0.1", 0, limit=CHUNK)
    ready.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), ended))
    await ended.wait()
    server.close()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float, note: Callable[[bytes], None]
) -> None:
    """Hand on what comes, in order, each piece so many seconds after it came."""
    now = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def receive() -> None:
        data = b"-"
        while data:
            with suppress(ConnectionError):
                data = await reader.read(CHUNK)
            note(data)
            under_way.put_nowait((now() + latency, data))

    receiving = asyncio.create_task(receive())
    with suppress(OSError):  # whoever asked is gone
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - now())
            if not data:
                writer.write_eof()
                break
            writer.write(data)
            await writer.drain()
    receiving.cancel()
