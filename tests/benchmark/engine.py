"""What the engine costs above the bare SDK: wall time and CPU of a call, journal and kept answers included.

    python -m tests.benchmark.engine [--images 1500] [--latency 0.1] [--concurrency 50] [--rounds 3]

Both make the same calls in this process, turn by turn; the simulator is a process of its own.
"""

import argparse
import asyncio
import hashlib
import random
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, process_time

from anthropic import AsyncAnthropic
from PIL import Image

from tasks.asking.pages import Page
from tasks.asking.question import request
from tasks.types import PreparedImage
from tests.asking import JsonStore, asking, question
from tests.benchmark.storm import simulator
from tests.simulator_requests import encoded

SIDE = 400


def images(count: int) -> list[Page]:
    """As many different JPEGs of some 90 kB."""
    noise = random.Random(1)
    base = encoded(Image.frombytes("L", (SIDE, SIDE), noise.randbytes(SIDE * SIDE)))
    pages = []
    for number in range(count):
        data = base + number.to_bytes(4, "big")  # bytes after the end of a JPEG are no part of the picture
        digest = hashlib.sha256(data).hexdigest()
        pages.append(
            Page(f"{number}.jpg", PreparedImage(1, data, "image/jpeg", digest, SIDE, SIDE, "JPEG", SIDE, SIDE))
        )
    return pages


async def bare(pages: list[Page], url: str, concurrency: int) -> tuple[float, float]:
    """Wall and CPU seconds of the bare SDK."""
    places, asked = asyncio.Semaphore(concurrency), question()
    async with AsyncAnthropic(api_key="simulated", base_url=url, max_retries=0) as client:

        async def ask(page: Page) -> None:
            async with places:
                await client.messages.create(**request(asked, page.image))

        start, cpu = monotonic(), process_time()
        await asyncio.gather(*map(ask, pages))
        return monotonic() - start, process_time() - cpu


def engine(pages: list[Page], url: str, concurrency: int) -> tuple[float, float]:
    """Wall and CPU seconds of the engine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with asking(url, folder, JsonStore(folder / "kept"), concurrency=concurrency) as asked:
            start, cpu = monotonic(), process_time()
            outcomes = asked.ask(pages, attempts=1)
            seconds = monotonic() - start, process_time() - cpu
        assert all(outcome.status == "ok" for outcome in outcomes)
        return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {"bare SDK": [], "engine": []}
    with simulator("--latency", str(options.latency)) as url:
        for _ in range(options.rounds):
            measured["bare SDK"].append(asyncio.run(bare(images(options.images), url, options.concurrency)))
            measured["engine"].append(engine(images(options.images), url, options.concurrency))
    for name, rounds in measured.items():
        wall, cpu = (median(values) for values in zip(*rounds, strict=True))
        print(f"{name:10} {wall:6.2f} s wall  {1000 * cpu / options.images:5.2f} ms CPU a call")


if __name__ == "__main__":
    main()
