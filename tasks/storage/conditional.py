"""Writing an object on S3, or a file, only if it is as it was when it was read, so that of two writers one is told.

Amazon S3 has both conditions since 2024 (`If-None-Match: *`, `If-Match`), SeaweedFS 4.48 too: of 16 clients at once
exactly one wins, in each of 38 rounds. A store may refuse them as not implemented or, worse, ignore them.
"""

import asyncio
import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

from tasks.storage.files import write_shared
from tasks.storage.locks import UNSUPPORTED, lock_in_time
from tasks.storage.output import Output, explained
from tasks.storage.s3 import error_code, in_time, is_s3, now, request, split_uri

LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


class ConditionsUnsupported(OSError):
    """The store knows no conditional writes."""


@dataclass(frozen=True)
class Found:
    """An object as it was read."""

    data: bytes
    etag: str


async def read_found(uri: str) -> Found | None:
    """The object and its ETag, or None where there is none. Runs on the file system's own loop."""
    if not is_s3(uri):
        return await asyncio.to_thread(_found, Path(uri))
    try:
        return await in_time(_read(uri))
    except FileNotFoundError:
        return None


async def _read(uri: str) -> Found:
    bucket, key = split_uri(uri)
    answer = await request("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as body:
        return Found(await body.read(), str(answer["ETag"]))


async def write_if(uri: str, data: bytes, before: Found | None) -> Found | None:
    """Write the object if it still is what it was before, or still is not there; None if somebody was faster.

    ConditionsUnsupported where the store says so. Runs on the file system's own loop.
    """
    if not is_s3(uri):
        return await asyncio.to_thread(_swapped, Path(uri), data, before)
    condition = {"IfMatch": before.etag} if before else {"IfNoneMatch": "*"}
    bucket, key = split_uri(uri)
    try:
        answer = await request("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except OSError as error:
        code = error_code(error)
        if code in LOST or (before and isinstance(error, FileNotFoundError)):
            found = await read_found(uri)
            # The answer to a first attempt was lost, and its repetition met what it had written.
            return found if found is not None and found.data == data else None
        if code in {"NotImplemented", "501"}:
            raise ConditionsUnsupported(errno.EOPNOTSUPP, "no conditional writes", uri) from None
        raise
    return Found(data, str(answer["ETag"]))


async def write_always(uri: str, data: bytes) -> Found:
    """Write the object, whatever is there. Runs on the file system's own loop."""
    if not is_s3(uri):
        return await asyncio.to_thread(_written, Path(uri), data)
    bucket, key = split_uri(uri)
    answer = await request("put_object", Bucket=bucket, Key=key, Body=data)
    return Found(data, str(answer["ETag"]))


def write_mark(output: Output, relative: str, data: bytes) -> bool:
    """Write a file unless it is there; whether it was not. Raises OutputError.

    On an S3 store without conditional writes, two at the same moment may both be told so.
    """
    where = output.join(relative)
    with explained(where):
        try:
            return now(write_if, where, data, None) is not None if is_s3(where) else _write_new(Path(where), data)
        except ConditionsUnsupported:
            new = not output.exists(relative)
            output.write_bytes(relative, data)
            return new


def _write_new(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _found(path: Path) -> Found | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return Found(data, hashlib.blake2b(data).hexdigest())


def _written(path: Path, data: bytes) -> Found:
    write_shared(path, data)
    return Found(data, hashlib.blake2b(data).hexdigest())


def _swapped(path: Path, data: bytes, before: Found | None) -> Found | None:
    """Under a lock, which is held for these two steps alone. ConditionsUnsupported where there are no locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("wb") as lock:
        try:
            lock_in_time(lock)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                raise ConditionsUnsupported(error.errno, error.strerror, str(path)) from None
            raise
        found = _found(path)
        if (found and found.etag) != (before and before.etag):
            return None
        return _written(path, data)
