"""The sliding window: how many images are under way, how much memory they hold, and what a halt leaves."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType

from config.job import Job
from tasks.asking.halting import Halt
from tasks.asking.pages import Page
from tasks.errors import OutputError
from tasks.orchestration import window
from tasks.orchestration.assembling import make_context
from tasks.orchestration.chunks import Asked, Chunk, PreparedChunk
from tasks.orchestration.context import RunContext
from tasks.orchestration.invoker import Todo
from tasks.orchestration.store import PrefectStore
from tasks.orchestration.window import AHEAD, PREPARING_AT_ONCE, in_window
from tasks.planning.plan import make_plan
from tasks.preparing import prepare_image
from tasks.storage.records import records_of
from tests.runs import draw


class Result(Future[Any]):
    """A future that tells its state and gives its exception as Prefect's do."""

    @classmethod
    def of(cls, value: Any) -> "Result":
        future = cls()
        future.set_result(value)
        return future

    def wait(self) -> None:
        self.exception()

    @property
    def state(self) -> State[Any]:
        return State(type=StateType.FAILED if self.exception() else StateType.COMPLETED)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        error = self.exception(timeout)
        return super().result(timeout) if raise_on_failure or error is None else error


@contextmanager
def opened(tmp_path: Path, images: int, **job: Any) -> Iterator[RunContext]:
    """A run of so many images at the simulator."""
    plan = make_plan(str(draw(tmp_path / "images", images)), str(tmp_path / "out"), Job(**job))
    with make_context(plan, PrefectStore(records_of(plan.output.uri))).at_work() as run:
        yield run


def todo(run: RunContext) -> Todo:
    """All images of the run."""
    return Todo(run.plan.listing.images, 0, None)


def at_once(chunk: Chunk) -> PreparedChunk:
    """Stands for the task `prepare` where no bytes matter."""
    return PreparedChunk(chunk, [], [], [])


def answered(prepared: PreparedChunk) -> Asked:
    """Stands for the task `ask`."""
    chunk = prepared.chunk
    return Asked([{**chunk.run.unasked_row(source), "status": "ok"} for source in chunk.sources])


def drive(
    run: RunContext,
    ask: Callable[[PreparedChunk], Asked],
    prepare: Callable[[Chunk], PreparedChunk] = at_once,
    watch: Callable[[list[Chunk]], None] = lambda _: None,
) -> None:
    """Let every chunk through the window and record its rows, as the flow does."""
    with ThreadPoolExecutor(16) as pool:

        def submitted(work: Callable[[Any], Any], value: Any) -> Result:
            future = Result()

            def finish() -> None:
                try:
                    future.set_result(work(value))
                except Exception as error:  # noqa: BLE001  # it is the future's
                    future.set_exception(error)

            pool.submit(finish)
            return future

        def map_prepare(chunks: list[Chunk]) -> Iterable[Result]:
            watch(chunks)
            return [submitted(prepare, chunk) for chunk in chunks]

        for rows in in_window(run, todo(run), map_prepare, lambda values: [submitted(ask, one) for one in values]):
            run.recorder.record(rows)


@pytest.mark.usefixtures("simulator")
def test_only_so_many_images_are_under_way_and_each_is_recorded_once(tmp_path: Path) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def admitted(wave: list[Chunk]) -> None:
        nonlocal under_way, most
        with lock:
            under_way += sum(len(chunk.sources) for chunk in wave)
            most = max(most, under_way)

    def ask(prepared: PreparedChunk) -> Asked:
        nonlocal under_way
        with lock:
            under_way -= len(prepared.chunk.sources)
        return answered(prepared)

    with opened(tmp_path, 60, concurrency=3) as run:
        drive(run, ask, watch=admitted)
    assert most <= AHEAD * 3
    recorder = run.recorder
    assert (recorder.rows, recorder.images, recorder.statuses) == (60, 60, {"ok": 60})


class Held:
    """Stands for `prepare.map` and `ask.map`: each future ends when the test says so."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.preparing: dict[Result, Chunk] = {}
        self.admitted: list[int] = []
        self.most = 0

    def prepare(self, chunks: list[Chunk]) -> list[Result]:
        futures = [Result() for _ in chunks]
        with self.lock:
            self.preparing |= dict(zip(futures, chunks, strict=True))
            self.admitted += [len(chunk.sources) for chunk in chunks]
            self.most = max(self.most, len(self.preparing))
        return futures

    def ask(self, prepared: list[PreparedChunk]) -> list[Result]:
        return [Result.of(answered(one)) for one in prepared]

    def sizes(self) -> list[int]:
        """Images of the chunks that are being prepared."""
        with self.lock:
            return [len(chunk.sources) for chunk in self.preparing.values()]

    def end_one(self) -> None:
        with self.lock:
            first, chunk = next(iter(self.preparing.items()))
            del self.preparing[first]
        first.set_result(at_once(chunk))


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(("images", "concurrency"), [(50, 50), (300, 200)], ids=["small chunks", "large chunks"])
def test_no_more_chunks_are_prepared_at_once_than_keep_the_cores_busy(
    images: int, concurrency: int, tmp_path: Path
) -> None:
    """And of large ones two, so that one is prepared while the other is handed on."""
    with opened(tmp_path, images, concurrency=concurrency) as run:
        held, count, recorded = Held(), run.prepare_threads.count, 0
        waiting = threading.Event()

        def end_them() -> None:
            while recorded < images:
                if held.preparing and waiting.wait(0.01) is False:
                    sizes = held.sizes()
                    assert len(sizes) <= PREPARING_AT_ONCE or sum(sizes[:-1]) < count
                    held.end_one()

        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(end_them)
            for rows in in_window(run, todo(run), held.prepare, held.ask):
                recorded += len(rows)
            ending.result()
    assert recorded == images and sum(held.admitted) == images
    if images == 50:
        assert held.most == count
    else:
        assert max(held.admitted) > count


def prepared(chunk: Chunk) -> PreparedChunk:
    """Stands for the task `prepare`."""
    pages = [
        (source, Page(source.uri, page))
        for source in chunk.sources
        for page in prepare_image(Path(source.uri).read_bytes(), chunk.run.plan.rules)
    ]
    return PreparedChunk(chunk, pages, [], [])


@pytest.mark.usefixtures("simulator")
def test_prepared_images_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, held, most = threading.Lock(), 0, 0

    def prepare(chunk: Chunk) -> PreparedChunk:
        nonlocal held, most
        one = prepared(chunk)
        with lock:
            held += one.bytes_held
            most = max(most, held)
        return one

    def ask(one: PreparedChunk) -> Asked:
        nonlocal held
        threading.Event().wait(0.02)  # while they are asked about
        with lock:
            held -= one.bytes_held
        for _, page in one.pages:
            page.drop_bytes()
        return answered(one)

    with opened(tmp_path, 24, concurrency=50) as run:
        largest = max(source.size for source in run.plan.listing.images)
        monkeypatch.setattr(window, "PREPARED_BYTES", 3 * largest)
        drive(run, ask, prepare)
    assert run.recorder.statuses == {"ok": 24}
    assert largest < most <= 4 * largest


@pytest.mark.usefixtures("simulator")
def test_after_a_halt_the_rest_is_recorded_as_unasked(tmp_path: Path) -> None:
    def ask(one: PreparedChunk) -> Asked:
        run = one.chunk.run
        if one.chunk.number == 5:
            run.stop(Halt("paused", "Enough."))
        while one.chunk.number >= 5 and run.halt is None:  # the engine's thread has still to hear of it
            threading.Event().wait(0.01)
        return answered(one)

    with opened(tmp_path, 50, concurrency=1) as run:
        drive(run, ask)
    recorder = run.recorder
    assert (recorder.rows, recorder.images, recorder.status(run.halt)) == (50, 50, "paused")
    assert recorder.statuses["unasked"] + recorder.statuses["ok"] == 50
    assert recorder.statuses["unasked"] > 30
    assert {failure["error"] for failure in recorder.failures} == {"Enough."}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("error", [OutputError("No room."), KeyError("a bug")])
def test_when_asking_itself_fails_nothing_more_is_paid(tmp_path: Path, error: Exception) -> None:
    def ask(one: PreparedChunk) -> Asked:
        if one.chunk.number == 3:
            raise error
        return answered(one)

    with opened(tmp_path, 50, concurrency=1) as run:
        drive(run, ask, prepared)
    assert (run.recorder.rows, run.recorder.status(run.halt)) == (50, "stopped")
    assert run.halt is not None and run.halt.error is not None
    assert str(error) in run.halt.message
    assert run.recorder.statuses["unavailable"] == 1


@pytest.mark.usefixtures("simulator")
def test_a_file_that_breaks_its_preparation_does_not_stop_the_others(tmp_path: Path) -> None:
    def prepare(chunk: Chunk) -> PreparedChunk:
        if chunk.number == 3:
            raise RuntimeError("a decoder nobody foresaw")
        return at_once(chunk)

    with opened(tmp_path, 20, concurrency=1) as run:
        drive(run, answered, prepare)
    assert run.recorder.statuses == {"ok": 19, "unavailable": 1}
    assert "a decoder nobody foresaw" in run.recorder.failures[0]["error"]
