"""Reading a source's bytes from disk or S3, and telling whether it still is what was listed."""

import errno
import hashlib
import os
import stat
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from struct import pack
from typing import BinaryIO, TypeVar

from tasks.errors import ImageError, Signal
from tasks.storage.s3 import explain_s3, is_s3, now, read_object, read_range
from tasks.types import Source

LOOKS = 3  # at a file that changes while it is read


class SourceUnavailable(Signal):
    """The storage failed for a moment; reading again may help."""


class NotAFile(OSError):
    """What lies at the path is a folder, or a pipe, a socket or a device, which a reader might wait for."""


def open_file(path: str | Path) -> BinaryIO:
    """Open a local file to read its bytes. Raises NotAFile, or another OSError."""
    mode = _mode(path)
    if not stat.S_ISREG(mode):
        raise NotAFile(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'a pipe, a socket or a device'}.")
    return Path(path).open("rb")


def _mode(path: str | Path) -> int:
    try:
        return Path(path).stat().st_mode
    except ValueError:
        raise NotAFile("No file can have this name: there is a NUL in it.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            length = len(str(path))
            raise NotAFile(f"The path of {length:,} characters is longer than the system takes. Move it up.") from None
        if error.errno == errno.ELOOP:
            raise NotAFile(f"{path} is a link that leads to itself.") from None
        raise


def file_etag(status: os.stat_result) -> str:
    """What an ETag is on S3, of a local file: another whenever its bytes may be others.

    Of inode, time of change and time of writing in nanoseconds: a program may set the last, but not the one before. It
    is also another after a change of mode, owner or links, which costs a look at the bytes and never a call.
    """
    state = pack("<QQQ", status.st_ino % 2**64, status.st_ctime_ns % 2**64, status.st_mtime_ns % 2**64)
    return urlsafe_b64encode(hashlib.blake2b(state, digest_size=8).digest())[:-1].decode()


def file_source(uri: str, name: str, status: os.stat_result) -> Source:
    """A local file as the disk describes it."""
    modified = datetime.fromtimestamp(status.st_mtime_ns / 1e9, tz=UTC)
    return Source(uri, name, status.st_size, modified, file_etag(status))


def read_whole(source: Source, *, most_bytes: int) -> tuple[Source, bytes]:
    """All bytes of the file, and the file as it was when they were read, which another may have taken the place of.

    Raises as `read_source` does; SourceUnavailable too for a file that changes while it is read.
    """
    _check_size(source, most_bytes)
    with _explained(source):
        return _read_object(source, most_bytes) if is_s3(source.uri) else _read_file(source, most_bytes)


def _read_object(source: Source, most_bytes: int) -> tuple[Source, bytes]:
    """The answer that brings the bytes says whose they are."""
    data, etag, modified = now(read_object, source.uri, most_bytes, source.size)
    _check_grown(source, data, most_bytes)
    if etag is None or etag == source.etag:
        return source, data
    return replace(source, size=len(data), etag=etag, modified=modified), data


def _read_file(source: Source, most_bytes: int) -> tuple[Source, bytes]:
    for _ in range(LOOKS):
        with open_file(source.uri) as file:
            before = os.fstat(file.fileno())
            read = file_source(source.uri, source.name, before)
            _check_size(read, most_bytes)
            data = file.read(most_bytes + 1)
            _check_grown(source, data, most_bytes)
            if file_etag(os.fstat(file.fileno())) == read.etag:
                return (source if read == source else read), data
    raise SourceUnavailable(f"{source.uri} changes while it is read. Run the same command again once it is complete.")


def _check_size(source: Source, most_bytes: int) -> None:
    if source.size > most_bytes:
        raise ImageError("too_large", f"{source.name} has {source.size:,} bytes; the limit is {most_bytes:,}.")


def _check_grown(source: Source, data: bytes, most_bytes: int) -> None:
    if len(data) > most_bytes:
        raise ImageError("too_large", f"{source.name} has grown to more than the limit of {most_bytes:,} bytes.")


def read_source(source: Source, *, most_bytes: int, start: int = 0, end: int | None = None) -> bytes:
    """The file's bytes, or the range [start, end) of them.

    ImageError: gone, forbidden, no file or larger than `most_bytes`. SourceUnavailable: the storage is in trouble.
    """
    if end is None:
        _check_size(source, most_bytes)
    with _explained(source):
        if is_s3(source.uri):
            whole = end is None and not start
            data = (
                now(read_object, source.uri, most_bytes, source.size)[0]
                if whole
                else now(read_range, source.uri, start, end)
            )
        else:
            with open_file(source.uri) as file:
                file.seek(start)
                data = file.read(most_bytes + 1 if end is None else end - start)
    if end is None:
        _check_grown(source, data, most_bytes)
    return data


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn what storage raises into ImageError or SourceUnavailable."""
    try:
        yield
    except (ImageError, SourceUnavailable):
        raise
    except FileNotFoundError:
        raise ImageError("missing", f"{source.uri} is not there any more.") from None
    except PermissionError as error:
        reason = explain_s3(error, source.uri) if is_s3(source.uri) else f"No permission to read {source.uri}."
        raise ImageError("forbidden", reason) from None
    except NotAFile as error:
        raise ImageError("not_a_file", str(error)) from None
    except Exception as error:  # noqa: BLE001  # s3fs lets botocore's and aiohttp's many transport errors through
        reason = explain_s3(error, source.uri) if is_s3(source.uri) else f"Cannot read {source.uri}: {error}."
        raise SourceUnavailable(reason) from None


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
