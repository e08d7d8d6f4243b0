"""The sliding window: how many images are under way, how much memory they hold, and what a halt leaves."""

import threading
from collections.abc import Callable, Iterator
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
from tasks.orchestration.batches import Batch, batches
from tasks.orchestration.running import Run
from tasks.orchestration.window import AHEAD, TAKING_TURNS, Window
from tasks.planning.plan import make_plan
from tasks.preparing import prepare_image
from tests.asking import JsonStore
from tests.runs import draw

Work = Callable[[Batch], Any]


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
def opened(tmp_path: Path, images: int, **job: Any) -> Iterator[Run]:
    """A run of so many images at the simulator."""
    plan = make_plan(str(draw(tmp_path / "images", images)), str(tmp_path / "out"), Job(**job))
    with Run(plan, JsonStore(tmp_path / "kept")).open() as run:
        yield run


def answered(batch: Batch) -> None:
    """Stands for the tasks `prepare` and `ask`."""
    batch.rows = [{**batch.run.unasked_row(source), "status": "ok"} for source in batch.sources]


def drive(run: Run, work: Work, watch: Callable[[list[Batch]], None] = lambda _: None) -> None:
    """Let every batch through the window, as the flow does."""
    todo = Window(run, batches(run, run.plan.listing.images))
    with ThreadPoolExecutor(16) as pool:

        def submitted(batch: Batch) -> Result:
            future = Result()

            def finish() -> None:
                try:
                    future.set_result(work(batch))
                except Exception as error:  # noqa: BLE001  # it is the future's
                    future.set_exception(error)

            pool.submit(finish)
            return future

        for turn in todo.turns():
            watch(turn.admitted)
            todo.preparing(turn.admitted, [Result.of(batch) for batch in turn.admitted])
            todo.asking(turn.prepared, [submitted(ready.result()) for ready in turn.prepared])


@pytest.mark.usefixtures("simulator")
def test_only_so_many_images_are_under_way_and_each_is_recorded_once(tmp_path: Path) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def admitted(wave: list[Batch]) -> None:
        nonlocal under_way, most
        with lock:
            under_way += sum(len(batch.sources) for batch in wave)
            most = max(most, under_way)

    def work(batch: Batch) -> None:
        nonlocal under_way
        answered(batch)
        with lock:
            under_way -= len(batch.sources)

    with opened(tmp_path, 60, concurrency=3) as run:
        drive(run, work, admitted)
    assert most <= AHEAD * 3
    assert (run.rows, run.images, run.statuses) == (60, 60, {"ok": 60})


@pytest.mark.usefixtures("simulator")
def test_no_more_batches_are_prepared_at_once_than_keep_the_cores_busy(tmp_path: Path) -> None:
    with opened(tmp_path, 60, concurrency=50) as run:
        todo, preparing = Window(run, batches(run, run.plan.listing.images)), dict[Result, Batch]()
        turns = todo.turns()
        count = run.preparers.count
        while len(preparing) < count:
            admitted = next(turns).admitted
            futures = [Result() for _ in admitted]
            preparing |= dict(zip(futures, admitted, strict=True))
            todo.preparing(admitted, futures)
        assert len(preparing) == count
        first, batch = next(iter(preparing.items()))
        first.set_result(batch)
        turn = next(turns)
        assert (len(turn.admitted), turn.prepared) == (1, [first]), "one is ready to be asked about, one more comes in"


@pytest.mark.usefixtures("simulator")
def test_large_batches_are_prepared_two_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path, 300, concurrency=200) as run:
        todo, preparing, sizes = Window(run, batches(run, run.plan.listing.images)), dict[Result, Batch](), list[int]()
        for turn in todo.turns():
            futures = [Result() for _ in turn.admitted]
            preparing |= dict(zip(futures, turn.admitted, strict=True))
            todo.preparing(turn.admitted, futures)
            sizes += [len(batch.sources) for batch in turn.admitted]
            assert len(preparing) <= TAKING_TURNS or sum(sizes[-len(preparing) : -1]) < run.preparers.count
            todo.asking(turn.prepared, [Result() for _ in turn.prepared])
            if sum(sizes) >= 200:
                break
            first, batch = next(iter(preparing.items()))
            del preparing[first]
            first.set_result(batch)
        assert len(preparing) == TAKING_TURNS


def prepared(batch: Batch) -> None:
    """Stands for the task `prepare`."""
    for source in batch.sources:
        pages = prepare_image(Path(source.uri).read_bytes(), batch.run.rules)
        batch.pages += [(source, Page(source.uri, page)) for page in pages]


@pytest.mark.usefixtures("simulator")
def test_prepared_images_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, held, most = threading.Lock(), 0, 0

    def work(batch: Batch) -> None:
        nonlocal held, most
        prepared(batch)
        sizes = [len(page.image.data) for _, page in batch.pages]
        with lock:
            held += sum(sizes)
            most = max(most, held)
        threading.Event().wait(0.02)  # while they are asked about
        with lock:
            held -= sum(sizes)
        for _, page in batch.pages:
            page.drop_bytes()
        answered(batch)

    with opened(tmp_path, 24, concurrency=50) as run:
        largest = max(source.size for source in run.plan.listing.images)
        monkeypatch.setattr(window, "PREPARED_BYTES", 3 * largest)
        drive(run, work)
    assert run.statuses == {"ok": 24}
    assert largest < most <= 4 * largest


@pytest.mark.usefixtures("simulator")
def test_after_a_halt_the_rest_is_recorded_as_unasked(tmp_path: Path) -> None:
    def work(batch: Batch) -> None:
        answered(batch)
        if batch.number == 5:
            batch.run.stop(Halt("paused", "Enough."))

    with opened(tmp_path, 50, concurrency=1) as run:
        drive(run, work)
    assert (run.rows, run.images, run.status) == (50, 50, "paused")
    assert run.statuses["unasked"] + run.statuses["ok"] == 50
    assert run.statuses["unasked"] > 30
    assert {failure["error"] for failure in run.failures} == {"Enough."}


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("error", [OutputError("No room."), KeyError("a bug")])
def test_when_asking_itself_fails_nothing_more_is_paid(tmp_path: Path, error: Exception) -> None:
    def work(batch: Batch) -> None:
        prepared(batch)
        if batch.number == 3:
            raise error
        answered(batch)

    with opened(tmp_path, 50, concurrency=1) as run:
        drive(run, work)
    assert (run.rows, run.status) == (50, "stopped")
    assert run.engine.halt is not None and run.engine.halt.error is not None
    assert str(error) in run.engine.halt.message
    assert run.statuses["unavailable"] == 1


@pytest.mark.usefixtures("simulator")
def test_a_file_that_breaks_its_preparation_does_not_stop_the_others(tmp_path: Path) -> None:
    def work(batch: Batch) -> None:
        if batch.number == 3:
            raise RuntimeError("a decoder nobody foresaw")
        answered(batch)

    with opened(tmp_path, 20, concurrency=1) as run:
        drive(run, work)
    assert run.statuses == {"ok": 19, "unavailable": 1}
    assert "a decoder nobody foresaw" in run.failures[0]["error"]
