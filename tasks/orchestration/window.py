"""A sliding window over the chunks of a run, so that memory does not grow with the number of images.

Only so many images are under way at once: enough that calls never wait for preparation, few enough that prepared
images fit in memory. As chunks finish their rows come out to be recorded, and the next ones are let in.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from tasks.asking.halting import Halt
from tasks.errors import StopRun
from tasks.orchestration.chunks import Asked, Chunk, PreparedChunk, chunk_size, chunks
from tasks.orchestration.context import RunContext
from tasks.orchestration.invoker import Todo
from tasks.recording.rows import Row

# A task's `map`: what each of many values comes to, later.
Mapped = Callable[[list[Any]], Iterable[Any]]

# Prepared images waiting for their answers may take so much memory before no more are prepared.
PREPARED_BYTES = 128_000_000
AHEAD = 4  # images under way for each call in flight, and chunks at least, so that the tails of chunks overlap
IN_BATCHES = 15_000  # images under way in a run by Message Batch: some 4 kB each, with the threads of their task runs
BATCHED_BYTES = 64_000_000  # instead of PREPARED_BYTES there: two bodies; nobody waits for a call in flight
WAVE = 4  # chunks let in before the window looks what is prepared: Prefect takes some 10 ms to start each
PREPARING_AT_ONCE = 2  # chunks prepared at once, however large: while one is handed on, the threads have the other
# How long the window waits before it looks whether the run was halted.
HALT_POLL_S = 0.5


def in_window(run: RunContext, todo: Todo, prepare: Mapped, ask: Mapped) -> Iterator[list[Row]]:
    """Prepare and ask about all that is to do, a few chunks at a time; the rows of each as it ends.

    The rows are let go of once the next ones are asked for.
    """
    window = _Window(run, todo, prepare, ask)
    while True:
        yield from _emptied_after(window.done())
        if not window.move_on():
            if not window.under_way:
                break
            yield from _emptied_after(window.wait())
    for chunk in window.left():
        yield [run.unasked_row(source) for source in chunk.sources]


def _emptied_after(ended: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Prefect remembers every task's result as long as the flow lives: it keeps an empty list of each."""
    for rows in ended:
        yield rows
        rows.clear()


class _Window:
    def __init__(self, run: RunContext, todo: Todo, prepare: Mapped, ask: Mapped) -> None:
        self._run, self._prepare, self._ask = run, prepare, ask
        self._chunks = chunks(run, todo.images)
        self._next: Chunk | None = next(self._chunks, None)
        self._preparing: dict[Any, Chunk] = {}
        self._prepared: list[PreparedChunk] = []
        self._asking: dict[Any, PreparedChunk] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._most_images = AHEAD * max(run.plan.job.concurrency, chunk_size(len(todo.images)))
        self._most_bytes = PREPARED_BYTES
        if run.plan.job.mode != "online":
            self._most_images, self._most_bytes = max(self._most_images, IN_BATCHES), BATCHED_BYTES

    @property
    def under_way(self) -> bool:
        """Whether anything has still to end."""
        return bool(self._preparing or self._prepared or self._asking)

    def move_on(self) -> bool:
        """Ask about what is prepared and let chunks in; whether there was anything to do."""
        prepared, self._prepared = self._prepared, []
        self._watch(self._asking, prepared, self._ask)
        admitted = self._admitted()
        self._watch(self._preparing, admitted, self._prepare)
        self._run.engine.expect(more=self._more_to_come)
        return bool(admitted or prepared)

    @property
    def _more_to_come(self) -> bool:
        """Whether the engine will be given more pages soon."""
        to_come = self._next is not None or self._preparing or self._prepared
        return bool(to_come) or any(not prepared.handed for prepared in self._asking.values())

    def done(self) -> Iterator[list[Row]]:
        """The rows of chunks that have ended by now."""
        with suppress(Empty):
            while True:
                yield from self._take(self._ended.get_nowait())

    def wait(self) -> Iterator[list[Row]]:
        """Until something ends, or for a little while."""
        with suppress(Empty):
            yield from self._take(self._ended.get(timeout=HALT_POLL_S))

    def left(self) -> Iterator[Chunk]:
        """Chunks that were not let in, because the run was halted."""
        if self._next is not None:
            yield self._next
        yield from self._chunks

    def _watch(self, here: dict[Any, Any], values: list[Any], mapped: Mapped) -> None:
        if not values:
            return
        for value, future in zip(values, mapped(values), strict=True):
            here[future] = value
            future.add_done_callback(self._ended.put)

    def _take(self, future: Any) -> Iterator[list[Row]]:
        future.wait()  # it has ended; only now does Prefect's future know its state without asking the server
        completed, result = future.state.is_completed(), future.result(raise_on_failure=False)
        if future in self._preparing:
            chunk = self._preparing.pop(future)
            if completed:
                self._prepared.append(result)
            else:
                yield self._broken(chunk, result)
            return
        prepared = self._asking.pop(future)
        if isinstance(result, Asked):
            yield result.rows
        else:  # asking failed, perhaps after it was paid for: nothing more may be
            _stop(self._run, result)
            yield self._broken(prepared.chunk, result)
        prepared.release()

    def _broken(self, chunk: Chunk, error: object) -> list[Row]:
        return [self._run.broken_row(source, error) for source in chunk.sources]

    def _admitted(self) -> list[Chunk]:
        wave: list[Chunk] = []
        while self._next is not None and self._run.halt is None and self._has_turn(wave) and self._fits(wave):
            wave.append(self._next)
            self._next = next(self._chunks, None)
        return wave

    def _has_turn(self, wave: list[Chunk]) -> bool:
        """Whether one more chunk may be prepared now: until all threads have an image, and two chunks in any case."""
        preparing, threads = [*self._preparing.values(), *wave], self._run.prepare_threads.count
        images = sum(len(chunk.sources) for chunk in preparing)
        return len(wave) < WAVE and (len(preparing) < PREPARING_AT_ONCE or images < threads)

    def _fits(self, wave: list[Chunk]) -> bool:
        assert self._next is not None
        asking = [prepared.chunk for prepared in self._asking.values()]
        images = sum(len(chunk.sources) for chunk in (*self._preparing.values(), *asking, *wave))
        if not images:
            return True
        return images + len(self._next.sources) <= self._most_images and self._bytes(wave) < self._most_bytes

    def _bytes(self, wave: list[Chunk]) -> int:
        """What prepared images hold, and what those that will be prepared next may."""
        held = sum(prepared.bytes_held for prepared in self._asking.values())
        return held + sum(self._bytes_to_come(chunk) for chunk in (*self._preparing.values(), *wave))

    def _bytes_to_come(self, chunk: Chunk) -> int:
        most = self._run.plan.rules.max_base64_bytes * 3 // 4
        return round(sum(min(source.size, most) for source in chunk.sources) * self._run.prepare_counts.sent_share)


def _stop(run: RunContext, failure: object) -> None:
    reason = f"Asking failed in a way that nobody foresaw ({type(failure).__name__}: {str(failure)[:200]})."
    error = failure if isinstance(failure, StopRun) else StopRun(f"{reason} What was answered is kept.")
    run.stop(Halt.stopped(error))
