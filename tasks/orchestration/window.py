"""A sliding window over the batches of a run, so that memory does not grow with the number of images.

Only so many images are under way at once: enough that calls never wait for preparation, few enough that prepared
images fit in memory. As batches finish their rows are recorded, and the next ones are let in.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from tasks.asking.halting import Halt
from tasks.errors import StopRun
from tasks.orchestration.batches import Batch, batch_size
from tasks.orchestration.running import Run
from tasks.recording.rows import Row

# Prepared images waiting for their answers may take so much memory before no more are prepared.
PREPARED_BYTES = 128_000_000
AHEAD = 4  # images under way for each call in flight, and batches at least, so that the tails of batches overlap
WAVE = 4  # batches let in before the flow looks what is prepared: Prefect takes some 10 ms to start each
TAKING_TURNS = 2  # batches prepared at once, however large: while one is handed on, the threads have the other
# How long the flow waits before it looks whether the run was halted.
LOOK_S = 0.5


@dataclass(frozen=True)
class Turn:
    """What the flow may do next: batches to prepare, and prepared ones (their done futures) to ask about."""

    admitted: list[Batch]
    prepared: list[Any]


class Window:
    """Lets batches in, hands them on as they are prepared, and records them as they finish."""

    def __init__(self, run: Run, batches: Iterable[Batch]) -> None:
        self._run = run
        self._batches = iter(batches)
        self._next: Batch | None = next(self._batches, None)
        self._under_way: dict[Any, Batch] = {}
        self._wave: list[Batch] = []
        self._prepared: list[Any] = []
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._most_images = AHEAD * max(run.plan.job.concurrency, batch_size(run.to_ask))

    def turns(self) -> Iterator[Turn]:
        """A turn whenever there is something to do, until all is done."""
        while True:
            self._take_done()
            admitted, prepared, self._prepared = self._admitted(), self._prepared, []
            if admitted or prepared:
                yield Turn(admitted, prepared)
            elif self._under_way:
                self._wait()
            else:
                break
        self._record_unasked()

    def preparing(self, admitted: list[Batch], futures: Iterable[Any]) -> None:
        """Hand each batch on once it is prepared."""
        self._wave = []
        self._watch(zip(admitted, futures, strict=True))

    def asking(self, prepared: list[Any], futures: Iterable[Any]) -> None:
        """Record each batch once it has been asked about."""
        self._watch(zip([self._under_way.pop(future) for future in prepared], futures, strict=True))

    def _watch(self, pairs: Iterable[tuple[Batch, Any]]) -> None:
        for batch, future in pairs:
            self._under_way[future] = batch
            future.add_done_callback(self._done.put)

    def _admitted(self) -> list[Batch]:
        wave: list[Batch] = []
        self._wave = wave
        images = sum(len(batch.sources) for batch in self._under_way.values())
        while self._next is not None and self._run.engine.halt is None and self._has_turn() and self._fits(images):
            wave.append(self._next)
            images += len(self._next.sources)
            self._next = next(self._batches, None)
        return wave

    def _has_turn(self) -> bool:
        """Whether one more batch may be prepared now: until all threads have an image, and two batches in any case."""
        preparing = [len(batch.sources) for batch in self._under_way.values() if not batch.asking]
        preparing += [len(batch.sources) for batch in self._wave]
        return len(self._wave) < WAVE and (len(preparing) < TAKING_TURNS or sum(preparing) < self._run.preparers.count)

    def _fits(self, images: int) -> bool:
        assert self._next is not None
        if not images:
            return True
        return images + len(self._next.sources) <= self._most_images and self._bytes() < PREPARED_BYTES

    def _bytes(self) -> int:
        """What prepared images hold, and what those that will be prepared next may."""
        return sum(self._bytes_of(batch) for batch in (*self._under_way.values(), *self._wave))

    def _bytes_of(self, batch: Batch) -> int:
        if batch.pages:
            return sum(len(page.image.data) for _, page in list(batch.pages))
        most = self._run.rules.max_base64_bytes * 3 // 4
        return round(sum(min(source.size, most) for source in batch.sources) * self._run.preparation.sent_share)

    def _wait(self) -> None:
        """Until something is done, or for a little while."""
        with suppress(Empty):
            self._take(self._done.get(timeout=LOOK_S))

    def _take_done(self) -> None:
        with suppress(Empty):
            while True:
                self._take(self._done.get_nowait())

    def _take(self, future: Any) -> None:
        batch = self._under_way[future]
        future.wait()  # it is done; only now does Prefect's future know its state without asking the server
        if batch.asking or not future.state.is_completed():
            del self._under_way[future]
            self._run.record(_rows(batch, future))
            batch.release()
        else:
            batch.asking = True
            self._prepared.append(future)

    def _record_unasked(self) -> None:
        """The run was halted: whatever was not let in gets its row all the same."""
        left = [self._next] if self._next is not None else []
        for batch in (*left, *self._batches):
            self._run.record([self._run.unasked_row(source) for source in batch.sources])


def _rows(batch: Batch, future: Any) -> list[Row]:
    if batch.rows is not None:
        return batch.rows
    result = future.result(raise_on_failure=False)
    if batch.pages:  # asking failed, perhaps after it was paid for: nothing more may be
        _stop(batch.run, result)
    return [batch.run.broken_row(source, result) for source in batch.sources]


def _stop(run: Run, failure: object) -> None:
    reason = f"Asking failed in a way that nobody foresaw ({type(failure).__name__}: {str(failure)[:200]})."
    error = failure if isinstance(failure, StopRun) else StopRun(f"{reason} What was answered is kept.")
    run.stop(Halt("stopped", str(error), error))
