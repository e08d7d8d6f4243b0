"""Prefect's result store as the place where answers and finished batches are kept.

The store's transactions commit only when the outermost task ends, so a kill would lose everything a task had paid
for: records are written straight to the store, one by one, the moment they arrive. Records are JSON. With a local
output they lie under VISIONFLOW_HOME, whatever folder the images are in; with an output on S3 beside it, so that any
worker can resume any run.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

from config.settings import home
from tasks.storage.output import explained
from tasks.storage.prefetch import ahead
from tasks.storage.s3 import is_s3, read_object, read_object_now, s3_filesystem

FOLDER = ".visionflow"
READERS = 16  # of finished batches: on S3 each is a request
REST = "-finished"  # after the key of a batch: its finished files, where others have to be asked about again


def result_storage(output: str) -> Path | RemoteFileSystem:
    """Where Prefect keeps results for this output, as a task's `result_storage` takes it."""
    storage = storage_of(output)
    if isinstance(storage, RemoteFileSystem):  # a block must be known to the server before a task may use it
        name = hashlib.sha256(storage.basepath.encode()).hexdigest()[:16]
        storage.save(f"visionflow-{name}", overwrite=True)
    return storage


def storage_of(output: str) -> Path | RemoteFileSystem:
    """The same place for reading alone, which needs no server."""
    if not is_s3(output):
        return home() / "results"
    return _remote(f"{output.rstrip('/')}/{FOLDER}")


def _remote(base: str) -> RemoteFileSystem:
    return RemoteFileSystem(basepath=base, settings={"use_listings_cache": False})  # credentials: AWS variables


class RecordFiles(LocalFileSystem):
    """Small records on local disk, whole or not at all.

    Prefect's own local storage opens, writes and closes in three hops through a thread: an answer that has arrived
    would wait unkept for tens of milliseconds while other calls keep the event loop busy, and be lost to a kill.
    """

    _block_type_name = "Visionflow Record Files"
    _block_type_slug = "visionflow-record-files"

    def _resolve_path(self, path: str) -> Path:
        """The file of a key; keys are ours, hexadecimal, so nothing has to be looked up on disk to trust them."""
        assert self.basepath is not None
        return Path(self.basepath, path)  # Prefect hands in absolute paths too

    async def aread_path(self, path: str) -> bytes:
        """The record; ValueError, as Prefect expects, when there is none."""
        try:
            return self._resolve_path(path).read_bytes()
        except FileNotFoundError:
            raise ValueError(f"Path {path} does not exist.") from None

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write beside the record and rename, so that a reader never sees half of it."""
        target = self._resolve_path(path)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")  # another run may keep the same answer
        try:
            partial.write_bytes(content)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
        partial.replace(target)
        return str(target)


class RecordObjects(RemoteFileSystem):
    """Small records on S3, one request for each that is read or written.

    Prefect's own remote storage asks for the folder, the object and then its bytes, and makes the requests of a write
    on the event loop itself: all other calls in flight would wait for each answer that is kept.
    """

    _block_type_name = "Visionflow Record Objects"
    _block_type_slug = "visionflow-record-objects"

    async def aread_path(self, path: str) -> bytes:
        """The record; FileNotFoundError when there is none."""
        return bytes(await _on_loop_of(s3_filesystem(), read_object(self._resolve_path(path))))

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]  # Prefect's is both
        """The same for a thread."""
        return read_object_now(self._resolve_path(path))

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write the record, whole or not at all."""
        fs, target = s3_filesystem(), self._resolve_path(path)
        await _on_loop_of(fs, fs._pipe_file(target, content))
        return target


def _on_loop_of(fs: Any, request: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """A request made on the file system's own event loop, to be waited for on ours."""
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(request, fs.loop))


class PrefectStore:
    """Answers and finished batches in a Prefect result store."""

    def __init__(self, storage: Path | RemoteFileSystem) -> None:
        block = (
            RecordFiles(basepath=str(storage))
            if isinstance(storage, Path)
            else RecordObjects(basepath=storage.basepath, settings=storage.settings)
        )
        self._root = storage
        self.results = ResultStore(result_storage=block, serializer=JSONSerializer(), cache_result_in_memory=False)
        self._unsaved = home() / "unsaved"
        # Hardly ever: else no answer has to be looked for in two places.
        self._any_unsaved = any(path.is_file() for path in self._unsaved.rglob("*"))

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """For a process that asks for the same run: the same place, opened there."""
        return _reopened, (_place(self._root),)

    async def get(self, key: str) -> dict[str, Any] | None:
        """The record, or None if there is none or it is torn; the storage's own error if it is in trouble."""
        if self._any_unsaved and (saved := self._saved_here(key)) is not None:
            return saved  # what the storage has is older
        try:
            record = await self.results.aread(key)
        except FileNotFoundError:
            return self._saved_here(key)
        except ValueError as error:  # LocalFileSystem's word for a missing file, and JSON's for a torn record
            if isinstance(self._root, Path) or "validation error" in str(error):
                return self._saved_here(key)
            raise
        return record.result if isinstance(record.result, dict) else None

    async def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep the record at once; if the storage fails, leave it on this machine and raise the storage's error."""
        path = self._unsaved / key
        try:
            await self.results.awrite(record, key=key)
        except Exception:
            self._any_unsaved = True
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(record))
            raise
        if self._any_unsaved:
            path.unlink(missing_ok=True)

    def keep_finished(self, batch_key: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of those files of an unfinished batch that are finished; the storage's own error if it fails.

        For a thread without an event loop.
        """
        asyncio.run(self.results.awrite(rows, key=f"{batch_key}{REST}"))

    def _saved_here(self, key: str) -> dict[str, Any] | None:
        """A record that could only be kept on this machine."""
        try:
            record = json.loads((self._unsaved / key).read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def finished(self, prefix: str) -> Iterator[list[dict[str, Any]]]:
        """Rows of each finished batch under the prefix, newest batch first. Raises OutputError."""
        place = f"{_place(self._root)}/{prefix}"
        with explained(place, verb="read"):
            times = self._times(prefix)
        newest_first = sorted(times, key=lambda key: (times[key], key), reverse=True)
        with ThreadPoolExecutor(READERS) as readers:
            for _, record in ahead(readers, self._rows, newest_first, READERS):
                with explained(place, verb="read"):
                    rows = record.result()
                if isinstance(rows, list):
                    yield rows

    def _rows(self, key: str) -> Any:
        try:
            return self.results.read(key).result
        except (ValueError, FileNotFoundError):  # torn, or tidied away meanwhile
            return None

    def _times(self, prefix: str) -> dict[str, float | datetime]:
        """When each record under the prefix was written, by its key."""
        if isinstance(self._root, Path):
            folder, times = self._root / prefix, dict[str, float | datetime]()
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(FileNotFoundError):  # a part, whole and renamed meanwhile
                    times[f"{prefix}/{path.name}"] = path.stat().st_mtime
            return times
        base = self._root.basepath.removeprefix("s3://")
        found = s3_filesystem().find(f"{base}/{prefix}/", detail=True)
        return {path.removeprefix(f"{base}/"): facts["LastModified"] for path, facts in found.items()}


def _place(root: Path | RemoteFileSystem) -> str:
    return str(root) if isinstance(root, Path) else root.basepath


def _reopened(place: str) -> PrefectStore:
    return PrefectStore(_remote(place) if is_s3(place) else Path(place))
