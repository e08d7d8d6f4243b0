"""Reading a source's bytes from disk or S3."""

import errno
import stat
from pathlib import Path
from typing import BinaryIO

from tasks.errors import ImageError
from tasks.storage.s3 import explain_s3, is_s3, read_object_now, s3_filesystem
from tasks.types import Source


class SourceUnavailable(Exception):
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


def read_source(source: Source, *, most_bytes: int, start: int = 0, end: int | None = None) -> bytes:
    """The file's bytes, or the range [start, end) of them.

    ImageError: gone, forbidden, no file or larger than `most_bytes`. SourceUnavailable: the storage is in trouble.
    """
    if end is None and source.size > most_bytes:
        raise ImageError("too_large", f"{source.name} has {source.size:,} bytes; the limit is {most_bytes:,}.")
    try:
        if is_s3(source.uri):
            if end is None and not start:
                return read_object_now(source.uri)
            return bytes(s3_filesystem().cat_file(source.uri, start=start, end=end))
        data = _read_file(source.uri, start, most_bytes + 1 if end is None else end - start)
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
    if end is None and len(data) > most_bytes:
        raise ImageError("too_large", f"{source.name} has grown to more than the limit of {most_bytes:,} bytes.")
    return data


def _read_file(path: str, start: int, count: int) -> bytes:
    with open_file(path) as file:
        file.seek(start)
        return file.read(count)
