"""What storage says of the listed files, in columns: some 100 bytes an image, a `Source` only when one is asked for."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice, pairwise
from typing import Any, overload

import pyarrow as pa

from tasks.storage.s3 import is_s3
from tasks.types import Source

Progress = Callable[[int], object]

CHUNK = 4096  # images that are turned into columns, or back, at a time
EVERY = 1000  # images between two words about progress
EPOCH = datetime.fromtimestamp(0, tz=UTC)
MICROSECOND = timedelta(microseconds=1)
# A local name need not be valid Unicode. Written so, it comes back, and bytes sort as the text does.
ENCODING = ("utf-8", "surrogatepass")
COLUMNS = pa.schema(
    [
        ("path", pa.large_binary()),  # the URI after the root
        ("name", pa.binary()),  # null where it is the path
        ("size", pa.int64()),
        ("modified", pa.int64()),  # microseconds since 1970
        ("etag", pa.string()),
    ]
)


class OnDemand(Sequence[Source]):
    """Images that are made when they are looked at; equal to any sequence of equal images."""

    @overload
    def __getitem__(self, at: int) -> Source: ...
    @overload
    def __getitem__(self, at: slice) -> "Picked": ...
    def __getitem__(self, at: int | slice) -> "Source | Picked":
        place = range(len(self))[at]
        return self.pick(place) if isinstance(place, range) else self._one(place)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    @property
    @abstractmethod
    def on_s3(self) -> bool:
        """Whether any of them lies on S3."""

    @abstractmethod
    def pick(self, positions: Sequence[int]) -> "Picked":
        """Those at the positions, in that order; nothing is copied."""

    @abstractmethod
    def _one(self, position: int) -> Source: ...


class Images(OnDemand):
    """All images of a listing. `collect` makes them."""

    def __init__(self, root: str, chunks: list[Any]) -> None:
        self._root = root
        self._chunks = chunks  # record batches of COLUMNS; all but the last have CHUNK rows
        self._count: int = sum(chunk.num_rows for chunk in chunks)

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "Images":
        """The same images in columns."""
        return sources if isinstance(sources, cls) else collect(sources)

    @classmethod
    def of_table(cls, table: pa.Table) -> "Images":
        """The images that `table` gave."""
        return cls("", table.combine_chunks().to_batches(max_chunksize=CHUNK))

    @property
    def table(self) -> pa.Table:
        """The columns; the whole URI is in them where the images are of no root."""
        return pa.Table.from_batches(self._chunks, COLUMNS)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Source]:
        for chunk in self._chunks:
            yield from self._made(chunk)

    def __repr__(self) -> str:
        return f"{self._count:,} images in {self.nbytes:,} bytes"

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(int(chunk.column("size").to_numpy().sum()) for chunk in self._chunks)

    @property
    def nbytes(self) -> int:
        """Memory that the columns take."""
        return sum(chunk.nbytes for chunk in self._chunks)

    @property
    def on_s3(self) -> bool:
        """Whether any of them lies on S3."""
        return is_s3(self._root) if self._root else any(map(is_s3, self.uris()))

    def uris(self) -> Iterator[str]:
        """Every URI, in order."""
        for chunk in self._chunks:
            for path in chunk.column("path").to_pylist():
                yield self._root + path.decode(*ENCODING)

    def pick(self, positions: Sequence[int]) -> "Picked":
        """Those at the positions, in that order."""
        return Picked(self, positions)

    def at(self, positions: Iterable[int]) -> Iterator[Source]:
        """The images at the positions; neighbours are made together."""
        for number, together in groupby(positions, lambda position: position // CHUNK):
            places = [position - number * CHUNK for position in together]
            first = min(places)
            made = self._made(self._chunks[number].slice(first, max(places) - first + 1))
            for place in places:
                yield made[place - first]

    def _one(self, position: int) -> Source:
        return next(self.at([position]))

    def _made(self, chunk: Any) -> list[Source]:
        made = []
        for path, name, size, modified, etag in zip(*(column.to_pylist() for column in chunk.columns), strict=True):
            after = path.decode(*ENCODING)
            called = after if name is None else name.decode(*ENCODING)
            when = None if modified is None else EPOCH + timedelta(microseconds=modified)
            made.append(Source(self._root + after, called, size, when, etag))
        return made


class Picked(OnDemand):
    """Some images of a listing, by their positions."""

    def __init__(self, images: Images, positions: Sequence[int]) -> None:
        self._images = images
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Source]:
        for start in range(0, len(self), CHUNK):
            yield from self._images.at(map(int, self._positions[start : start + CHUNK]))

    @property
    def on_s3(self) -> bool:
        """Whether any of them lies on S3."""
        return self._images.on_s3 and any(is_s3(image.uri) for image in self)

    def pick(self, positions: Sequence[int]) -> "Picked":
        """Those of them at the positions, in that order."""
        among = self._positions
        if isinstance(positions, range):
            stop = positions.stop if positions.stop >= 0 else None  # a range that runs backwards ends before 0
            return Picked(self._images, among[positions.start : stop : positions.step] if positions else ())
        return Picked(self._images, [among[position] for position in positions])

    def _one(self, position: int) -> Source:
        return next(self._images.at([int(self._positions[position])]))


def any_on_s3(sources: Sequence[Source]) -> bool:
    """Whether any of them lies on S3."""
    return sources.on_s3 if isinstance(sources, OnDemand) else any(is_s3(source.uri) for source in sources)


def collect(sources: Iterable[Source], root: str = "", progress: Progress | None = None) -> Images:
    """The images in the order they come; all their URIs begin with `root`."""
    return Images(root, list(_chunks(sources, root, progress)))


def collect_sorted(
    sources: Iterable[Source], root: str, *, limit: int | None = None, progress: Progress | None = None
) -> Images:
    """The first `limit` images by URI, each once."""
    chunks = list(_chunks(sources, root, progress))
    if _ascending(chunks) and (limit is None or sum(chunk.num_rows for chunk in chunks) <= limit):
        return Images(root, chunks)
    import pyarrow.compute as pc  # it takes 30 ms, and a folder comes in order

    table = pa.Table.from_batches(chunks, COLUMNS).combine_chunks()
    order = pc.sort_indices(table, sort_keys=[("path", "ascending")])
    paths = table["path"].take(order)
    first = pa.chunked_array([pa.array([True]), *pc.not_equal(paths[1:], paths[:-1]).chunks])
    table = table.take(order.filter(first.combine_chunks())[:limit])
    return Images(root, table.combine_chunks().to_batches(max_chunksize=CHUNK))


def _chunks(sources: Iterable[Source], root: str, progress: Progress | None) -> Iterator[Any]:
    coming = _counted(iter(sources), progress) if progress else iter(sources)
    while some := list(islice(coming, CHUNK)):
        yield _columns(some, root)


def _counted(sources: Iterator[Source], progress: Progress) -> Iterator[Source]:
    for number, source in enumerate(sources, 1):
        yield source
        if not number % EVERY:
            progress(number)


def _columns(sources: list[Source], root: str) -> Any:
    """The sources as a record batch."""
    if not all(source.uri.startswith(root) for source in sources):
        raise ValueError(f"not all of them lie below {root}")
    paths = [source.uri[len(root) :] for source in sources]
    pairs = zip(sources, paths, strict=True)
    columns = [
        [path.encode(*ENCODING) for path in paths],
        [None if source.name == path else source.name.encode(*ENCODING) for source, path in pairs],
        [source.size for source in sources],
        [None if (when := source.modified) is None else (when - EPOCH) // MICROSECOND for source in sources],
        [source.etag for source in sources],
    ]
    arrays = [pa.array(values, column.type) for values, column in zip(columns, COLUMNS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=COLUMNS)


def _ascending(chunks: list[Any]) -> bool:
    """Whether every path is greater than the one before."""
    before = None
    for chunk in chunks:
        paths = chunk.column("path").to_pylist()
        if (before is not None and before >= paths[0]) or any(one >= after for one, after in pairwise(paths)):
            return False
        before = paths[-1]
    return True
