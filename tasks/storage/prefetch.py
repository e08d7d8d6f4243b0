"""Doing a little ahead of their turn what would else be waited for one by one, such as requests to S3."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[tuple[T, Future[R]]]:
    """Each item, in order, and what becomes of `work` on it; the pool has the next `depth` items meanwhile.

    What nobody has asked for yet is as much at most. When the caller leaves early, work that has not begun is dropped.
    """
    under_way: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) > depth:
                yield under_way.popleft()
        while under_way:
            yield under_way.popleft()
    finally:
        for _, dropped in under_way:
            dropped.cancel()
