"""Earlier: what other runs have submitted and nobody has collected, known by a few bytes a request.

A run that only submits may leave a million requests. Whoever collects them must know of each image whether it is among
them, and in which batch; the rest is in the intents, which are read one at a time.
"""

from array import array
from collections.abc import Iterable
from typing import Any

from tasks.asking.batches.polling import Running


class Earlier:
    """Answers asked for by earlier runs, by hashes of their keys: two that share one wait for each other's batch."""

    def __init__(self) -> None:
        self._batches: list[Running] = []
        self._added: list[array[int]] = []
        self._hashes: Any = None
        self._numbers: Any = None

    def add(self, running: Running, keys: Iterable[str]) -> None:
        """One more batch, and what was asked in it. All are there before the first is looked for."""
        self._batches.append(running)
        self._added.append(array("q", map(hash, keys)))

    def batch(self, key: str) -> Running | None:
        """The batch in which an answer was asked for, as long as it is not collected."""
        return next((running for place in self._places(key) if not (running := self._of(place)).over), None)

    def claim(self, key: str, batch: Running | None = None) -> bool:
        """Whether this run has collected an answer that nobody had waited for, and was not told so before.

        `batch` is that one alone.
        """
        for place in self._places(key):
            of = self._of(place)
            if of.over and not self._claimed[place] and batch in (None, of):
                self._claimed[place] = 1
                return True
        return False

    def _of(self, place: int) -> Running:
        return self._batches[int(self._numbers[place])]

    def _places(self, key: str) -> Iterable[int]:
        if not self._batches:
            return ()
        if self._hashes is None:
            self._look_up()
        start, end = (int(self._hashes.searchsorted(hash(key), side)) for side in ("left", "right"))
        return range(start, end)

    def _look_up(self) -> None:
        import numpy as np

        hashes = np.concatenate([np.frombuffer(added, np.int64) for added in self._added])
        numbers = np.repeat(np.arange(len(self._added), dtype=np.int32), [len(added) for added in self._added])
        order = hashes.argsort(kind="stable")
        self._hashes, self._numbers, self._claimed = hashes[order], numbers[order], bytearray(len(order))
        self._added.clear()
