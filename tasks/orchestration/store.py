"""Prefect's result store as the place where answers and finished chunks are kept.

Prefect's own caching of a task's result commits only when the outermost task ends, only logs a write that failed, and
writes local files neither whole nor private: records are written straight to the store, one by one, the moment they
arrive. They are JSON. With a local output they lie under VISIONFLOW_HOME, whatever folder the images are in; with an
output on S3 beside it, so that any worker can resume any run.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Self

from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer
from pydantic import PrivateAttr

from config.settings import home
from tasks.recording.rows import are_rows
from tasks.storage.files import write_private
from tasks.storage.output import explained
from tasks.storage.packs import Packs
from tasks.storage.reading import ahead
from tasks.storage.records import (
    PACKED,
    Checkpoint,
    Damaged,
    LocalRecords,
    ObjectRecords,
    Records,
    parse_record,
    sealed,
    unsealed,
)
from tasks.storage.s3 import there, write_object

READERS = 16  # of finished chunks: on S3 each is a request
REST = "-finished"  # after the key of a chunk: its finished files, where others have to be asked about again


class RecordFiles(LocalFileSystem):
    """Small records on local disk: whole, private and with a checksum.

    A thread of its own writes them, in one hop, where Prefect's local storage takes three: making and renaming a file
    waits for the disk now and then, above all while the journal is made durable, and all calls in flight would too.
    """

    _block_type_name = "Visionflow Record Files"
    _block_type_slug = "visionflow-record-files"
    _writer: Any = PrivateAttr(default_factory=lambda: Writer())

    def _resolve_path(self, path: str) -> Path:
        """The file of a key; keys are ours, hexadecimal, so nothing has to be looked up on disk to trust them."""
        assert self.basepath is not None
        return Path(self.basepath, path)  # Prefect hands in absolute paths too

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write the record."""
        written: str = await asyncio.wrap_future(self._writer.submit(partial(self.write_path, path, content)))
        return written

    def write_path(self, path: str, content: bytes) -> str:  # type: ignore[override]  # Prefect's is both
        """The same for a thread."""
        target = self._resolve_path(path)
        write_private(target, sealed(content, str(target).removeprefix(f"{self.basepath}/")))
        return str(target)


class Writer:
    """One thread that does what it is given, in turn. It keeps no process: a disk that hangs is left behind."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread = Thread(target=self._take_turns, name="visionflow-records", daemon=True)
        self._lock = Lock()

    def submit(self, does: Callable[[], Any]) -> "Future[Any]":
        """What comes of it."""
        future: Future[Any] = Future()
        self._work.put((future, does))
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()
        return future

    def _take_turns(self) -> None:
        while True:
            future, does = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(does())
                except BaseException as error:  # noqa: BLE001  # whoever waits for it gets it
                    future.set_exception(error)


class RecordObjects(RemoteFileSystem):
    """Small records on S3, with a checksum: one request for each, or for all answers of a moment, which are in packs.

    Prefect's own remote storage asks for the folder, the object and then its bytes, and makes the requests of a write
    on the event loop itself: all other calls in flight would wait for each answer that is kept.
    """

    _packs: Packs = PrivateAttr()

    @classmethod
    def of(cls, records: ObjectRecords) -> Self:
        """What writes these records."""
        block = cls(basepath=records.uri, settings={"use_listings_cache": False})  # credentials: AWS variables
        block._packs = records.packs
        return block

    _block_type_name = "Visionflow Record Objects"
    _block_type_slug = "visionflow-record-objects"

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write the record, whole or not at all."""
        target = self._resolve_path(path)
        key = target.removeprefix(f"{self.basepath.rstrip('/')}/")
        if key.startswith(PACKED):
            await self._packs.put(key, sealed(content, key))
        else:
            await there(write_object(target, sealed(content, key)))
        return target


class PrefectStore:
    """Answers and finished chunks in a Prefect result store."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.durable = not isinstance(records, LocalRecords)  # what was acknowledged survives a power loss
        self._checkpoint = Checkpoint(records.sync)
        self._packs = records.packs if isinstance(records, ObjectRecords) else None
        block = RecordObjects.of(records) if isinstance(records, ObjectRecords) else RecordFiles(basepath=records.uri)
        self.results = ResultStore(result_storage=block, serializer=JSONSerializer(), cache_result_in_memory=False)
        self._unsaved = LocalRecords(home() / "unsaved")
        # Hardly ever: else no answer has to be looked for in two places.
        self._any_unsaved = bool(self._unsaved.times(""))

    async def get(self, key: str) -> dict[str, Any] | None:
        """The record, or None if there is none or it is damaged; the storage's own error if it is in trouble."""
        if self._any_unsaved and (saved := self._saved_here(key)) is not None:
            return saved  # what the storage has is older
        try:
            value = parse_record(await self._read(key), key)
            if isinstance(value, dict):
                return value
            await self.set_aside(key, "it is no answer")
        except FileNotFoundError:
            pass
        except Damaged as damage:
            await self.set_aside(key, str(damage))
        return self._saved_here(key)

    async def _read(self, key: str) -> bytes:
        if self._packs is None:
            return self.records.read(key)
        if self._packs.lacks(key):  # which needs no request
            raise FileNotFoundError(key)
        return await there(self._packs.read(key))

    async def look_again(self) -> None:
        """Take in what other machines have kept meanwhile. The storage's own error."""
        if self._packs is not None:
            await there(self._packs.look())

    async def set_aside(self, key: str, why: str) -> None:
        """Move a damaged record out of the way, with a warning."""
        await asyncio.to_thread(self.records.set_aside, key, why)

    async def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep the record at once; if the storage fails, leave it on this machine and raise the storage's error."""
        try:
            await self.results.awrite(record, key=key)
        except Exception:
            self._any_unsaved = True
            with suppress(OSError):
                write_private(self._unsaved.folder / key, sealed(json.dumps(record).encode(), key))
            raise
        if not self.durable:
            self._checkpoint.written(key)
        if self._any_unsaved:
            (self._unsaved.folder / key).unlink(missing_ok=True)

    def sync(self) -> None:
        """Make every answer that was kept survive a power loss. Raises OSError."""
        self._checkpoint.complete()

    def keep_finished(self, chunk_key: str, rows: list[dict[str, Any]], *, whole: bool) -> None:
        """Keep the rows of a finished chunk, or of those files of an unfinished one that are finished.

        For a thread without an event loop. The storage's own error if it fails.
        """
        asyncio.run(self.results.awrite(rows, key=chunk_key if whole else f"{chunk_key}{REST}"))

    def _saved_here(self, key: str) -> dict[str, Any] | None:
        """A record that could only be kept on this machine."""
        try:
            data = self._unsaved.read(key)
            record = json.loads(unsealed(data, key, first_release=(b'{"text":',)))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def finished(self, prefix: str) -> Iterator[list[dict[str, Any]]]:
        """Rows of each finished chunk under the prefix, newest chunk first; damaged ones are set aside.

        Raises OutputError.
        """
        place = f"{self.records.uri}/{prefix}"
        with explained(place, verb="read"):
            times = self.records.times(prefix)
        newest_first = sorted(times, key=lambda key: (times[key], key), reverse=True)
        with ThreadPoolExecutor(READERS) as readers:
            for key, record in ahead(readers, self.records.value, newest_first, READERS):
                with explained(place, verb="read"):
                    rows = record.result()
                if rows is None:
                    continue
                if are_rows(rows):
                    yield rows
                else:
                    self.records.set_aside(key, "it holds no rows")
