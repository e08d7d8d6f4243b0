"""What visionflow is measured against: `python -m tests.benchmark.floors WAY SOURCE REPORT`, a process of its own each.

SOURCE is a folder or s3://bucket/prefix. Images are read a little ahead of the calls, but by `threads`.

bytes    the least there is to do: the bare SDK, a semaphore, the files' bytes as they are
pillow   the same, with each image shrunk and encoded by Pillow in threads that run ahead of the calls
threads  how write-ups do it: a synchronous client in asyncio.to_thread, whose pool has few threads
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from anthropic import Anthropic, APIError, AsyncAnthropic, DefaultAsyncHttpxClient
from httpx2 import Limits
from PIL import Image

MODEL = "claude-haiku-5-5"
PROMPT = "Name the main subject of this image in one word."
MAX_TOKENS = 1024
AHEAD = 2  # images prepared and waiting, for each call in flight
ATTEMPTS = 3


@dataclass(frozen=True)
class Settings:
    """How many calls at once, and what Pillow makes of an image."""

    in_flight: int
    edge: int
    quality: int


Row = dict[str, Any]


class Disk:
    """A folder."""

    def __init__(self, source: str) -> None:
        self.images = sorted(str(path) for path in Path(source).rglob("*") if path.is_file())

    async def read(self, image: str) -> bytes:
        """On the event loop: handing it to a thread takes longer."""
        return self.read_now(image)

    def read_now(self, image: str) -> bytes:
        """For a thread."""
        return Path(image).read_bytes()


class Bucket:
    """A prefix on S3, read by s3fs."""

    def __init__(self, source: str) -> None:
        from s3fs import S3FileSystem

        # One request an image: with more concurrency than one, s3fs asks for an object's size before it reads it.
        settings: dict[str, Any] = {
            "use_listings_cache": False,
            "max_concurrency": 1,
            "config_kwargs": {"max_pool_connections": 128},
        }
        self._threads = S3FileSystem(**settings)
        self._loop = S3FileSystem(asynchronous=True, **settings)
        self.images: list[str] = sorted(self._threads.find(source))

    async def read(self, image: str) -> bytes:
        """On the event loop."""
        return bytes(await self._loop._cat_file(image))

    def read_now(self, image: str) -> bytes:
        """For a thread, which waits."""
        return bytes(self._threads.cat_file(image))


Source = Disk | Bucket
Way = Callable[[Source, Settings], Coroutine[Any, Any, list[Row]]]


async def ask_bytes(source: Source, settings: Settings) -> list[Row]:
    """The bare SDK."""
    ahead = asyncio.Semaphore(settings.in_flight * (1 + AHEAD))
    places = asyncio.Semaphore(settings.in_flight)
    async with _client(settings) as client:

        async def one(image: str) -> Row:
            async with ahead:
                data = await source.read(image)
                async with places:
                    return await _ask(client, image, data)

        return await asyncio.gather(*map(one, source.images))


async def ask_pillow(source: Source, settings: Settings) -> list[Row]:
    """The bare SDK, and Pillow ahead of it."""
    ahead = asyncio.Semaphore(settings.in_flight * (1 + AHEAD))
    places = asyncio.Semaphore(settings.in_flight)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        async with _client(settings) as client:

            async def one(image: str) -> Row:
                async with ahead:
                    data = await loop.run_in_executor(pool, _shrunk, await source.read(image), settings)
                    async with places:
                        return await _ask(client, image, data)

            return await asyncio.gather(*map(one, source.images))


async def ask_threads(source: Source, settings: Settings) -> list[Row]:
    """A thread for each call, as far as the default pool has any."""
    places = asyncio.Semaphore(settings.in_flight)
    client = Anthropic(max_retries=0)

    def call(image: str) -> Row:
        started = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                message = client.messages.create(**_question(source.read_now(image)))
            except APIError as error:
                failure = str(error)
                time.sleep(attempt)
            else:
                return {**_row(image, message), "latency_ms": round((time.monotonic() - started) * 1000)}
        return {"image": image, "status": "failed", "error": failure}

    async def one(image: str) -> Row:
        async with places:
            return await asyncio.to_thread(call, image)

    return await asyncio.gather(*map(one, source.images))


WAYS: dict[str, Way] = {"bytes": ask_bytes, "pillow": ask_pillow, "threads": ask_threads}


def _client(settings: Settings) -> AsyncAnthropic:
    limits = Limits(max_connections=settings.in_flight, max_keepalive_connections=settings.in_flight)
    return AsyncAnthropic(max_retries=0, http_client=DefaultAsyncHttpxClient(limits=limits))


async def _ask(client: AsyncAnthropic, image: str, data: bytes) -> Row:
    return _row(image, await client.messages.create(**_question(data)))


def _shrunk(data: bytes, settings: Settings) -> bytes:
    with Image.open(BytesIO(data)) as image:
        image.thumbnail((settings.edge, settings.edge))
        buffer = BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=settings.quality)
    return buffer.getvalue()


def _question(data: bytes) -> dict[str, Any]:
    media_type = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode("ascii")}
    content = [{"type": "image", "source": source}, {"type": "text", "text": PROMPT}]
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": content}]}


def _row(image: str, message: Any) -> Row:
    text = "".join(block.text for block in message.content if block.type == "text")
    return {"image": image, "status": "ok" if text else "empty", "answer": text}


def main() -> int:
    """Ask about every file of the source, and leave the rows as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.floors", description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("source")
    parser.add_argument("report", type=Path)
    parser.add_argument("--in-flight", type=int, default=50)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--quality", type=int, default=95)
    options = parser.parse_args()
    source = Bucket(options.source) if options.source.startswith("s3://") else Disk(options.source)
    settings = Settings(options.in_flight, options.edge, options.quality)
    options.report.write_text(json.dumps(asyncio.run(WAYS[options.way](source, settings))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
