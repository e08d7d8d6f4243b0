"""A storm: 30 % of calls turned away with `retry-after: 1`, 5 % 529, 2 % 5xx, 2 % cut, 1 % hanging, 1 % torn answers.

    python -m tests.benchmark.storm [--images 2000] [--latency 1] [--concurrency 50] [--no-plain]

Compares the engine with the same calls in a plain loop over `AsyncAnthropic` with the SDK's own retries, and with the
best possible: a limiter with as many places that knows every fault beforehand, obeys each `retry-after`, and else never
lets a place idle. The simulator is a process of its own.
"""

import argparse
import asyncio
import heapq
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, process_time

from anthropic import APIError, AsyncAnthropic

from tasks.asking.pages import Page
from tasks.asking.question import request
from tasks.simulator.faults import FaultPlan
from tests.asking import asking, page, question

FAULTS = "429=0.30:1,529=0.05,500=0.01,502=0.01,drop=0.02,hang=0.01,truncate=0.01"
AT_ONCE = ("429", "529", "drop_unpaid")
TIMEOUT_S = 5.0


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """The simulator's URL."""
    command = [sys.executable, "-m", "tasks.simulator", "--port", "0", "--no-ocr", "--no-entries", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def best_possible(images: list[Page], *, latency: float, concurrency: int, reorder: bool) -> float:
    """Seconds that a limiter needs which knows every fault beforehand: no place is ever idle while a call may go.

    With `reorder` it also takes the unluckiest images first, which no limiter can know; else they go as they come.
    """
    plan = FaultPlan(FAULTS)
    chains = [_chain(plan, image.image.sha256, latency) for image in images]
    left = [sum(busy + wait for busy, wait in chain) if reorder else 0.0 for chain in chains]
    ready = [(-left[number], number, 0) for number in range(len(chains))]  # unluckiest, then first come
    heapq.heapify(ready)
    waiting: list[tuple[float, int, int]] = []  # due, image, step
    free = [0.0] * concurrency
    end = 0.0
    while ready or waiting:
        now = heapq.heappop(free)
        while waiting and (waiting[0][0] <= now or not ready):
            due, number, step = heapq.heappop(waiting)
            now = max(now, due)
            heapq.heappush(ready, (-left[number], number, step))
        _, number, step = heapq.heappop(ready)
        busy, wait = chains[number][step]
        left[number] -= (busy + wait) if reorder else 0.0
        heapq.heappush(free, now + busy)
        end = max(end, now + busy)
        if step + 1 < len(chains[number]):
            heapq.heappush(waiting, (now + busy + wait, number, step + 1))
    return end


def _chain(plan: FaultPlan, sha256: str, latency: float) -> list[tuple[float, float]]:
    """Of each call for an image: seconds in its place, and seconds to wait after it."""
    chain, fault = [], ""
    while fault != "ok":
        fault = plan.next([sha256]).name
        busy = TIMEOUT_S if fault == "hang" else 0.0 if fault in AT_ONCE else latency
        chain.append((busy, 1.0 if fault == "429" else 0.0))
    return chain


def ours(images: list[Page], url: str, concurrency: int) -> tuple[float, float, Counter[str]]:
    """Wall and CPU seconds, and how it ended."""
    with (
        tempfile.TemporaryDirectory() as folder,
        asking(url, Path(folder), concurrency=concurrency, timeout=TIMEOUT_S) as asked,
    ):
        start, cpu = monotonic(), process_time()
        outcomes = asked.ask(images, attempts=10)
        return monotonic() - start, process_time() - cpu, Counter(outcome.status for outcome in outcomes)


async def plain(images: list[Page], url: str, concurrency: int, retries: int) -> tuple[float, float, Counter[str]]:
    """The loop that everybody writes first."""
    found: Counter[str] = Counter()
    places = asyncio.Semaphore(concurrency)
    asked = question()
    async with AsyncAnthropic(api_key="simulated", base_url=url, max_retries=retries, timeout=TIMEOUT_S) as client:

        async def ask(image: Page) -> None:
            async with places:
                try:
                    await client.messages.create(**request(asked, image.image))
                    found["ok"] += 1
                except (APIError, ValueError) as error:
                    found[type(error).__name__] += 1

        start, cpu = monotonic(), process_time()
        await asyncio.gather(*map(ask, images))
        return monotonic() - start, process_time() - cpu, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--no-plain", action="store_true")
    options = parser.parse_args()

    def images() -> list[Page]:
        return [page(number) for number in range(options.images)]

    def show(name: str, seconds: float, rest: object) -> None:
        print(f"{name:34} {seconds:7.1f} s  {seconds / best:5.2f} of the best  {rest}", flush=True)

    known = {"latency": options.latency, "concurrency": options.concurrency}
    best = best_possible(images(), reorder=False, **known)
    show("best possible", best, "")
    show("... unluckiest images first", best_possible(images(), reorder=True, **known), "")
    storm = ("--latency", str(options.latency), "--faults", FAULTS)
    with simulator(*storm) as url:
        seconds, cpu, found = ours(images(), url, options.concurrency)
        show("visionflow's engine", seconds, f"{dict(found)}, CPU {cpu:.1f} s")
    for retries in () if options.no_plain else (2, 10):
        with simulator(*storm) as url:
            seconds, cpu, found = asyncio.run(plain(images(), url, options.concurrency, retries))
            show(f"plain SDK, max_retries={retries}", seconds, f"{dict(found)}, CPU {cpu:.1f} s")


if __name__ == "__main__":
    main()
