"""Work ahead of its turn: in order, several at once, no more than was said, and none when nobody waits for it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from tasks.storage.reading import ahead


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_results_come_in_the_order_of_the_items(pool: ThreadPoolExecutor) -> None:
    def work(item: int) -> int:
        sleep(0.001 * (item % 3))
        return item * item

    assert [(item, done.result()) for item, done in ahead(pool, work, range(50), 5)] == [(n, n * n) for n in range(50)]
    assert list(ahead(pool, work, [], 5)) == []


def test_the_next_items_are_worked_on_while_one_is_waited_for(pool: ThreadPoolExecutor) -> None:
    together = threading.Barrier(4)  # nobody passes before four are there
    done = [future.result(timeout=10) for _, future in ahead(pool, lambda _: together.wait(10), range(8), 3)]
    assert sorted(done) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_no_more_is_done_ahead_than_was_said(pool: ThreadPoolExecutor) -> None:
    begun: list[int] = []
    for item, done in ahead(pool, begun.append, range(100), 4):
        done.result()
        assert max(begun) <= item + 4


def test_an_error_is_raised_in_its_turn_and_the_rest_goes_on(pool: ThreadPoolExecutor) -> None:
    def work(item: int) -> float:
        return 1 / item

    found = dict(ahead(pool, work, [2, 0, 4], 2))
    assert (found[2].result(), found[4].result()) == (0.5, 0.25)
    with pytest.raises(ZeroDivisionError):
        found[0].result()


def test_when_the_caller_leaves_work_that_has_not_begun_is_dropped() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        go_on.wait(10)

    with ThreadPoolExecutor(1) as one:
        coming = ahead(one, work, range(100), 9)
        next(coming)
        coming.close()  # type: ignore[attr-defined]  # a generator
        go_on.set()
    assert begun == [0]
