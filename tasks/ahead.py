"""Doing a little ahead of their turn what would else be waited for one by one, such as requests to S3."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[tuple[T, Future[R]]]:
    """Each item, in order, and what becomes of `work` on it; on the next `depth` items the work goes on meanwhile.

    Results that nobody has taken are as many as that at most. Whoever leaves early waits for what is under way.
    """
    under_way: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(depth) as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(work, item)))
                if len(under_way) > depth:
                    yield under_way.popleft()
            while under_way:
                yield under_way.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
