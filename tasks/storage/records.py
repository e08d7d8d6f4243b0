"""Kept records, by key, as they lie on disk or on S3: read, judged, set aside. Writing is the result store's.

A record is Prefect's envelope around JSON, with a checksum over all of it and its key. Whatever is damaged is moved to
`damaged/` beside the records, with one warning, and counts as missing: it is asked for again, and nothing waits for it.
"""

import errno
import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from config.settings import home
from tasks.storage.files import close_to_others, make_private_folder, sync_files
from tasks.storage.packs import Packs
from tasks.storage.s3 import is_s3, now, pages, read_object_now, remove_object, split_uri, write_object

_START = b'{"blake2b":"'
_BYTES = 8
_BODY = len(_START) + 2 * _BYTES + len(b'",')


class Damaged(ValueError):
    """What was kept is not what had been written."""


def sealed(body: bytes, place: str = "") -> bytes:
    """The JSON object with its checksum in front; `place` is the name under which alone it is right."""
    return b'%s%s",%s' % (_START, _checksum(body, place), body[1:])


def unsealed(data: bytes, place: str = "", *, first_release: tuple[bytes, ...]) -> bytes:
    """The JSON object as it was written. Raises Damaged.

    Those of the first release have no checksum: they begin as `first_release` says, and are returned as they are.
    """
    if data.startswith(first_release):
        return data
    body = b"{" + data[_BODY:]
    if data[:_BODY] != b'%s%s",' % (_START, _checksum(body, place)):
        raise Damaged("its checksum does not fit" if data else "it is empty")
    return body


def _checksum(body: bytes, place: str) -> bytes:
    digest = hashlib.blake2b(place.encode(), digest_size=_BYTES)
    digest.update(b"\0")
    digest.update(body)
    return digest.hexdigest().encode()


FOLDER = ".visionflow"  # of an output on S3, or of a fleet
RESULTS = "results"
DAMAGED = "damaged"
PACKED = "answers/"  # so begin the keys of what lies in packs on S3
_ENVELOPE = (b'{"metadata":', b'{"result":')

log = logging.getLogger("visionflow")


def parse_record(data: bytes, key: str) -> Any:
    """The value of a record. Raises Damaged, saying why.

    Only JSON is read: Prefect would load whatever the envelope names, and a pickle runs code.
    """
    try:
        envelope = json.loads(unsealed(data, key, first_release=_ENVELOPE))
        if envelope["metadata"]["serializer"]["type"] != "json":
            raise Damaged("it is not JSON")
        return json.loads(envelope["result"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, Damaged) else Damaged("it is no record of ours") from None


class Records(ABC):
    """A place of records; a key is a path relative to it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def value(self, key: str) -> Any | None:
        """What is kept under the key, or None; a damaged record is set aside first. The storage's own errors."""
        try:
            data = self.read(key)
        except FileNotFoundError:
            return None
        return self.judged(key, data)

    def judged(self, key: str, data: bytes) -> Any | None:
        """The value in these bytes of a record; None after setting it aside, if it is damaged."""
        try:
            return parse_record(data, key)
        except Damaged as damage:
            self.set_aside(key, str(damage))
            return None

    def set_aside(self, key: str, why: str) -> None:
        """Move a damaged record out of the way and say so once; if even that fails it is overwritten in its place."""
        moved = ""
        with suppress(Exception):  # each storage has errors of its own, and no start may wait for this
            moved = f" It was moved to {self._move(key)}."
        log.warning("%s/%s is damaged: %s.%s What it held is asked for again.", self.uri, key, why, moved)

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The record's bytes; FileNotFoundError, or the storage's own error."""

    @abstractmethod
    def times(self, prefix: str) -> dict[str, float | datetime]:
        """When each record below the prefix was written, by its key."""

    @abstractmethod
    def sync(self, keys: Iterable[str]) -> None:
        """Make records survive a power loss. Raises OSError."""

    @abstractmethod
    def _move(self, key: str) -> str:
        """Move a record to `damaged/` and return where it lies now."""


class LocalRecords(Records):
    """Records below a folder, which is the user's alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder
        if folder.is_dir():
            close_to_others(folder)

    def read(self, key: str) -> bytes:
        """The record's bytes."""
        return (self.folder / key).read_bytes()

    def times(self, prefix: str) -> dict[str, float | datetime]:
        """Time of change, in seconds."""
        found: dict[str, float | datetime] = {}
        for path in (self.folder / prefix).rglob("*"):
            with suppress(FileNotFoundError):  # set aside by another run meanwhile
                if not path.name.startswith(".") and path.is_file():
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_mtime
        return found

    def sync(self, keys: Iterable[str]) -> None:
        """One fsync a record, and one a folder."""
        sync_files([self.folder / key for key in keys])

    def _move(self, key: str) -> str:
        return str(move_to_damaged(self.folder / key, self.folder.parent / DAMAGED / key))


class ObjectRecords(Records):
    """Records below a prefix on S3, where a PUT that was acknowledged is durable; those of answers are in packs."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.packs = Packs(uri, PACKED)

    def read(self, key: str) -> bytes:
        """The record's bytes, by one request."""
        return now(self.packs.read, key) if key.startswith(PACKED) else read_object_now(f"{self.uri}/{key}")

    def times(self, prefix: str) -> dict[str, float | datetime]:
        """Time of the PUT; none of what is in packs."""
        base = self.uri.removeprefix("s3://")
        found = (facts for page in pages(*split_uri(f"{base}/{prefix}/")) for facts in page)
        times = {facts["Key"].removeprefix(f"{base}/"): facts["LastModified"] for facts in found}
        if f"{prefix}/" == PACKED:
            times |= dict.fromkeys(now(self.packs.keys), 0.0)
        return times

    def sync(self, keys: Iterable[str]) -> None:  # noqa: ARG002  # all are durable
        """Small packs become large ones, which are read sooner."""
        with suppress(Exception):  # each storage has errors of its own; nothing is lost
            now(self.packs.merge)

    def _move(self, key: str) -> str:
        target = f"{self.uri}/{DAMAGED}/{key}"
        now(write_object, target, self.read(key))
        if not now(self.packs.drop, key):
            now(remove_object, f"{self.uri}/{key}")
        return target


def move_to_damaged(path: Path, target: Path) -> Path:
    """Rename a local file, never over one that was set aside before."""
    make_private_folder(target.parent)
    free, number = target, 1
    while free.exists():
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    return path.rename(free)


def records_of(output: str) -> Records:
    """Where records of this output are kept: with a local one in its state folder, else beside it on S3."""
    return opened(f"{output.rstrip('/')}/{FOLDER}" if is_s3(output) else str(state_folder(output) / RESULTS))


def state_folder(output: str) -> Path:
    """Where on disk answers, journals and claims of runs with this output are kept.

    Under VISIONFLOW_HOME; in a local output itself once a fleet has used it, so that any machine finds them.
    """
    inside = Path(output, FOLDER)
    return inside if not is_s3(output) and (inside / RESULTS).is_dir() else home()


def keep_state_in(output: str) -> None:
    """From now on runs with this local output keep their state in it. Raises OSError."""
    make_private_folder(Path(output, FOLDER, RESULTS))


def opened(uri: str) -> Records:
    """The place of records at this folder or S3 prefix."""
    return ObjectRecords(uri) if is_s3(uri) else LocalRecords(Path(uri))


SYNCED_S = 120.0  # for a thousand of them, on a disk that hangs
EVERY = 1_000  # records; also what is remembered of them at most, times two


class Checkpoint:
    """Syncs records, a thousand at a time, on a thread of its own. Records are named on one thread."""

    def __init__(self, sync: Callable[[list[str]], None]) -> None:
        self._sync = sync
        self._new: list[str] = []
        self._under_way: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "visionflow-checkpoint")
        self._error: BaseException | None = None

    def written(self, key: str) -> None:
        """A record was written, and is not durable yet."""
        self._new.append(key)
        if len(self._new) >= EVERY and (self._under_way is None or self._under_way.done()):
            self._start()

    def complete(self) -> None:
        """Make durable what is left. Raises OSError if any of it, or what was written before, may not be."""
        self._start()
        self._look()
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        self._look()
        keys, self._new = self._new, []
        self._under_way = self._thread.submit(self._sync, keys)

    def _look(self) -> None:
        if self._under_way is None:
            return
        try:
            error = self._under_way.exception(SYNCED_S)
        except TimeoutError:
            error = TimeoutError(errno.ETIMEDOUT, f"the disk hangs: it took nothing for {SYNCED_S:.0f} s")
        self._error = self._error or error
