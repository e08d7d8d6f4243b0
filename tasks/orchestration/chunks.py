"""Chunks: how images are shared out over task runs, and which of them were finished before."""

import hashlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tasks.asking.pages import Page
from tasks.listing.images import ENCODING, Images, OnDemand
from tasks.recording.rows import Row, is_open, renewed
from tasks.text import printable
from tasks.types import Source

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext

# Up to so many images, every image is a task run of its own and stands by name in Prefect's UI.
IMAGE_BY_IMAGE = 50
LARGEST = 100
FIRST, GROWS = 8, 4  # of a large run: few task runs until enough images are prepared for all calls in flight
PER_RUN = 25  # a larger run is cut into about so many chunks until they reach the largest size
KEPT_AS = "2"  # what a finished chunk is: 1 could hold files that had failed to be read for a moment


class Chunk:
    """Images of one task run. No dataclass, so that Prefect passes it by reference."""

    def __init__(self, run: "RunContext", number: int, sources: list[Source]) -> None:
        self.run = run
        self.number = number
        self.sources = sources

    @property
    def label(self) -> str:
        """For the task run's name."""
        first = printable(self.sources[0].name)
        return first if len(self.sources) == 1 else f"{first} and {len(self.sources) - 1} more"

    @property
    def key(self) -> str:
        """Under which the finished chunk is kept: the questions and the unchanged files."""
        names = "\n".join([KEPT_AS, *map(identity, self.sources)])
        return f"{self.run.plan.chunk_prefix}/{hashlib.sha256(names.encode(*ENCODING)).hexdigest()}"


class PreparedChunk:
    """A chunk whose images can be sent. No dataclass either."""

    def __init__(
        self, chunk: Chunk, pages: list[tuple[Source, Page]], unprepared: list[Row], unseen: list[Source]
    ) -> None:
        self.chunk = chunk
        self.pages = pages
        """Each page of each file, with the file as it was when it was read."""
        self.unprepared = unprepared
        """Rows of files that cannot be sent."""
        self.unseen = unseen
        """Files that were not opened, because the run ended before."""
        self.handed = False
        """Whether the engine has its pages."""

    @property
    def bytes_held(self) -> int:
        """Of images that have no answer yet."""
        return sum(len(page.image.data) for _, page in self.pages)

    def release(self) -> None:
        """Let go of everything once it is recorded: Prefect remembers every task's result as long as the flow lives."""
        for held in (self.chunk.sources, self.pages, self.unprepared, self.unseen):
            held.clear()


class Asked:
    """The rows of a chunk. No dataclass, and no list: of that, Prefect would remember every row by itself."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows


def identity(source: Source) -> str:
    """An unchanged file: its URI, size, and ETag or time of change."""
    state = source.etag or (source.modified.isoformat() if source.modified else "")
    return f"{source.uri}\t{source.size}\t{state}"


def row_identity(row: Row) -> str:
    """The same, from a row of that file."""
    state = row.get("source_etag") or row.get("source_modified") or ""
    return f"{row['image']}\t{row['source_bytes']}\t{state}"


class Remaining:
    """The files of a run, each there once, that no finished chunk holds unchanged; shrinks as chunks are looked at.

    Files are found by the hash of their URI and then compared: no text of theirs is held a second time.
    """

    def __init__(self, sources: Sequence[Source], run_id: str = "") -> None:
        self._images = Images.of(sources)
        self._run_id = run_id
        self._taken: Any = None  # by position; while no chunk was finished before, nothing has to be looked up

    def take(self, finished: list[Row]) -> list[Row]:
        """Rows of a finished chunk whose files are in the run and have not changed, as rows of this run.

        A file with an open row is left to be tried again.
        """
        files: dict[str, list[Row]] = {}
        for row in finished:
            files.setdefault(row_identity(row), []).append(row)
        return [
            renewed(row, source, self._run_id)
            for file, rows in files.items()
            if not any(map(is_open, rows)) and (source := self._pop(rows[0]["image"], file)) is not None
            for row in sorted(rows, key=itemgetter("page"))
        ]

    @property
    def left(self) -> OnDemand:
        """The files that have to be asked about, in order."""
        if self._taken is None:
            return self._images
        import numpy as np

        positions: Any = np.flatnonzero(~self._taken)
        return self._images.pick(positions)

    def _pop(self, uri: str, file: str) -> Source | None:
        """The file of this identity, unless it is not in the run, has changed or was taken before."""
        if self._taken is None:
            self._look_up()
        key, place = hash(uri), int(self._hashes.searchsorted(hash(uri)))
        while place < len(self._hashes) and self._hashes[place] == key:  # different URIs may have the same hash
            position = int(self._positions[place])
            if not self._taken[position] and identity(source := self._images[position]) == file:
                self._taken[position] = True
                return source
            place += 1
        return None

    def _look_up(self) -> None:
        import numpy as np

        hashes = np.fromiter(map(hash, self._images.uris()), np.int64, len(self._images))
        self._positions = hashes.argsort(kind="stable").astype(np.int32)
        self._hashes = hashes[self._positions]
        self._taken = np.zeros(len(hashes), np.bool_)


def chunk_size(images: int) -> int:
    """Images a chunk: a task run costs Prefect some 60 ms of CPU, server included, so large runs share them."""
    if images <= IMAGE_BY_IMAGE:
        return 1
    return min(LARGEST, -(-images // PER_RUN))


def chunks(run: Any, sources: Sequence[Source]) -> Iterator[Chunk]:
    """Chunks in order; the first ones are small, so that calls start before many images are prepared."""
    most, start, number = chunk_size(len(sources)), 0, 1
    size = min(most, FIRST)
    while start < len(sources):
        yield Chunk(run, number, list(sources[start : start + size]))
        start, number, size = start + size, number + 1, min(most, size * GROWS)
