"""Where a run's files go: a local folder or an S3 prefix, behind one small interface.

A file appears whole or not at all: locally it is written under a hidden name in the same folder and renamed, on S3 it
is one PUT. Every failure is an `OutputError` of one line: what happened, to what, and what to do.
"""

import errno
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError

from tasks.errors import DamagedTable, OutputError, UsageError
from tasks.storage import files, s3
from tasks.text import as_utf8, printable

# Arrow's own allocator keeps what was freed for itself: 80 MB after a report of 100,000 rows.
pa.set_memory_pool(pa.system_memory_pool())

WRITE_TEST = ".visionflow-write-test"
ASIDE = ".visionflow/damaged"


class Output(ABC):
    """A place for files, each named by its path relative to the place."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def join(self, relative: str) -> str:
        """The full URI of a file of this output."""
        return f"{self.uri}/{relative}"

    def write_table(self, relative: str, table: pa.Table) -> None:
        """Write one Parquet file, whole or not at all. Raises OutputError."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        self.write_bytes(relative, memoryview(sink.getvalue()))

    def write_text(self, relative: str, text: str) -> None:
        """Write one UTF-8 file, whole or not at all. Raises OutputError."""
        self.write_bytes(relative, text.encode())

    def read_table(self, relative: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a Parquet file, or of every part below a folder; columns that parts lack are null there.

        Raises OutputError if nothing is there or it cannot be read.
        """
        parts = list(self.read_parts(relative, columns))
        with explained(self.join(relative), verb="read"):
            if not parts:
                raise FileNotFoundError(errno.ENOENT, "no Parquet file there")
            # Plainly, all parts would have to have the same columns; a job's schema may have grown since the first.
            return pa.concat_tables(parts, promote_options="permissive")

    def read_parts(self, relative: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Each part below a folder, one after another, with those of the columns that it has.

        Raises DamagedTable, or another OutputError.
        """
        for name in self.parts(relative):
            with self._reading(name) as part:
                wanted = (
                    None if columns is None else [column for column in columns if column in part.schema_arrow.names]
                )
                yield part.read(columns=wanted, use_threads=False)

    def read_batches(self, relative: str, rows: int) -> Iterator[pa.Table]:
        """The rows of each part below a folder, so many at a time at most. Raises DamagedTable, or OutputError."""
        for name in self.parts(relative):
            with self._reading(name) as part:
                yield part.schema_arrow.empty_table()  # there may be no rows
                yield from map(pa.table, part.iter_batches(rows, use_threads=False))

    def read_schema(self, name: str) -> pa.Schema:
        """The columns of one part. Raises DamagedTable, or another OutputError."""
        with self._reading(name) as part:
            return part.schema_arrow

    def parts(self, relative: str) -> "list[str]":
        """Names of the Parquet files below a folder. Raises OutputError."""
        return [name for name in self.list(relative) if name.endswith(".parquet")]

    def set_aside(self, relative: str) -> str:
        """Move a damaged file to where nobody looks for tables, and return its new place. Raises OutputError."""
        target = f"{ASIDE}/{relative}"
        with explained(self.join(relative)):
            while self.exists(target):
                target += "+"
            self._move(relative, target)
        return self.join(target)

    @contextmanager
    def _reading(self, name: str) -> Iterator[pq.ParquetFile]:
        """An open part, whose pages have checksums since the second release; DamagedTable where its bytes are wrong."""
        with explained(self.join(name), verb="read"), self._open(name) as file:
            try:
                yield pq.ParquetFile(file, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the disk: Arrow's own, such as of a page that does not decompress, have no number
                raise DamagedTable(
                    f"{self.join(name)} is damaged ({_one_line(str(error))[:200]}). "
                    f"`visionflow check {self.uri}` sets it aside, and says what is missing then."
                ) from None

    def write_bytes(self, relative: str, data: bytes | memoryview) -> None:
        """Write one file, whole or not at all. Raises OutputError."""
        with explained(self.join(relative)):
            self._put(relative, data)

    def check_writable(self) -> None:
        """Write and remove an empty file. Raises OutputError."""
        with explained(self.uri):
            self._put(WRITE_TEST, b"")
        with suppress(OSError, BotoCoreError):  # results are never deleted, so a key that may only write is enough
            self._delete(WRITE_TEST)

    @abstractmethod
    def exists(self, relative: str) -> bool:
        """Whether there is such a file. Raises OutputError if that cannot be told."""

    @abstractmethod
    def list(self, prefix: str = "") -> "list[str]":
        """Relative paths of the file named by `prefix`, or of all files below that folder; sorted, no hidden ones."""

    @abstractmethod
    def _put(self, relative: str, data: bytes | memoryview) -> None: ...

    @abstractmethod
    def _delete(self, relative: str) -> None: ...

    @abstractmethod
    def _move(self, relative: str, target: str) -> None: ...

    @abstractmethod
    def _open(self, relative: str) -> pa.NativeFile:
        """The file, to be read from wherever in it."""


class LocalOutput(Output):
    """A folder of this machine; made when the first file is written."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def _put(self, relative: str, data: bytes | memoryview) -> None:
        files.write_shared(self._folder / relative, data)

    def _delete(self, relative: str) -> None:
        (self._folder / relative).unlink()

    def _move(self, relative: str, target: str) -> None:
        path = self._folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        (self._folder / relative).rename(path)

    def exists(self, relative: str) -> bool:  # noqa: D102  # as Output says
        with explained(self.join(relative), verb="read"):
            return (self._folder / relative).is_file()

    def list(self, prefix: str = "") -> list[str]:  # noqa: D102
        start = self._folder / prefix
        with explained(str(start), verb="read"):
            found = [start] if start.is_file() else _files_below(start)
            names = [path.relative_to(self._folder) for path in found]
        return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))

    def _open(self, relative: str) -> pa.NativeFile:
        return pa.OSFile(os.fsencode(self._folder / relative))


class S3Output(Output):
    """A prefix of an S3 bucket, reached as the AWS_* environment variables say."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._root = "/".join(part for part in (bucket, prefix) if part)
        super().__init__(f"s3://{self._root}")

    def _put(self, relative: str, data: bytes | memoryview) -> None:
        s3.now(s3.write_object, self._path(relative), bytes(data))

    def _delete(self, relative: str) -> None:
        s3.now(s3.remove_object, self._path(relative))

    def _move(self, relative: str, target: str) -> None:
        self._put(target, s3.read_object_now(self.join(relative)))
        self._delete(relative)

    def exists(self, relative: str) -> bool:  # noqa: D102  # as Output says
        with explained(self.join(relative), verb="read"):
            try:
                return bool(s3.now(s3.facts_of, self._path(relative))["type"] == "file")
            except FileNotFoundError:
                return False

    def list(self, prefix: str = "") -> list[str]:  # noqa: D102
        start = self._path(prefix)
        with explained(self.join(prefix), verb="read"):
            found = [facts["Key"] for page in s3.pages(*s3.split_uri(start)) for facts in page]
        # Some servers list a folder too, once something has lain in it.
        files = [key for key in found if (key.startswith(f"{start}/") and not key.endswith("/")) or key == start]
        names = [key.removeprefix(f"{self._root}/") for key in files if key != self._root]
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def _open(self, relative: str) -> pa.NativeFile:
        return pa.BufferReader(s3.read_object_now(self.join(relative)))  # a part is small enough for one request

    def _path(self, relative: str) -> str:
        return f"{self._root}/{relative}".rstrip("/")


def open_output(uri: str) -> Output:
    """The output named by a folder's path or `s3://bucket/prefix`; touches nothing. Raises UsageError, OutputError."""
    scheme, separator, rest = uri.partition("://")
    folder = (rest if separator else uri) if not separator or scheme == "file" else None
    with explained(uri):  # where the folder that we are in is gone
        name = uri if folder is None else os.path.abspath(folder)
    if "\0" in name or as_utf8(name) != name:  # it stands in tables, in digests, and in what Prefect is told
        raise UsageError(f"The output's name {printable(name)} is not UTF-8, or holds a NUL. Name another folder.")
    if folder is not None:
        return LocalOutput(Path(folder).expanduser())
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UsageError(f"{uri} is no output. Name a local folder or s3://bucket/prefix.")
    return S3Output(bucket, prefix.strip("/"))


@contextmanager
def explained(uri: str, *, verb: str = "write") -> Iterator[None]:
    """Turn what storage raises into an OutputError of one line."""
    try:
        yield
    except (OSError, BotoCoreError, pa.ArrowException) as error:
        raise OutputError(explain_storage(error, uri, verb)) from error


def explain_storage(error: Exception, uri: str, verb: str) -> str:
    """One line for a person: what storage refused, for which file or bucket, and what to do about it."""
    if s3.is_s3(uri):
        return s3.explain_s3(error, uri)
    reason = error.errno if isinstance(error, OSError) else None
    if reason in (errno.ENOSPC, errno.EDQUOT):
        return f"No space left for {uri}. Free some, or choose another folder."
    if reason == errno.EROFS:
        return f"Cannot {verb} {uri}: its file system is read-only. Choose another folder."
    if reason in (errno.EACCES, errno.EPERM):
        return f"No permission to {verb} {uri}. Change the folder's owner or mode, or choose another folder."
    if reason in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"Cannot {verb} {uri}: a file stands where a folder should be, or the reverse. Choose another folder."
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"Cannot {verb} {uri}: {_one_line(text)}. Check the path and the disk."


def _files_below(folder: Path) -> list[Path]:
    """Files of a folder and all its sub-folders; PermissionError where one cannot be looked into."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # nothing has been written there yet
            raise error

    return [Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names]


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


log = logging.getLogger("visionflow")


def sound_parts(output: Output, folder: str, columns: Sequence[str] | None = None, of: str = "") -> Iterator[pa.Table]:
    """The parts below a folder that can be read, one after another; only those whose names begin with `of`.

    Raises OutputError if the storage fails.
    """
    for name in filter(lambda name: name.startswith(of), output.parts(folder)):
        try:
            yield from output.read_parts(name, columns)
        except DamagedTable as damage:
            set_part_aside(output, name, damage)


def set_part_aside(output: Output, name: str, damage: DamagedTable) -> None:
    """Move a damaged part out of the table, with a warning; it stays where the output takes no more."""
    try:
        moved = f"It was moved to {output.set_aside(name)}."
    except OutputError as error:
        moved = f"It could not be moved away: {error}"
    log.warning("%s %s", str(damage).partition(" `visionflow check")[0], moved)
