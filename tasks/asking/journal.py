"""The write-ahead journal: every call is noted before it leaves, and with its answer before that counts as kept.

A run that dies leaves its journal behind. A later run, or `visionflow check`, finds it (`leftovers`), completes the
dead run's `calls`, keeps the answers that only the journal has, and lists calls that had not ended as `maybe` paid. A
journal lives on the disk of the machine that made the calls, whatever the output is; it holds no key and no image.

**Durable before acknowledged.** An answer is received once; so its line is on the disk (fsync) before anybody is told
that it is kept. One thread makes all lines durable that were written since it did so last, so that calls that end
together share an fsync (group commit). The answer's own record is then written without waiting for the disk, made
durable a thousand at a time (tasks/storage/records.py), and at the latest before the journal is let go of: after a
power loss the journal has whatever records are missing. An fsync of each record as well would be two for one answer,
and one of its folder.

A call's first line reaches the operating system before the call leaves, so a kill loses none; it is made durable at
once, but the call does not wait for that. What a power loss can leave unlisted are calls that had left within the last
fsync, some milliseconds, and no answer. Waiting would add those milliseconds to each call.

**A full or failing disk.** The first write that fails lets no further call leave. The calls in flight still come back,
and each was paid for: a reserve of the disk (`RESERVE_BYTES`) is given up for their lines, and where that does not help
they go into the output, in a journal of the same name. A failed fsync is never tried again on the same file: the
system may have dropped what it could not write.
"""

import asyncio
import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.errors import BusyError, OutputError
from tasks.storage import files
from tasks.storage.locks import lock_in_time
from tasks.storage.output import explained
from tasks.storage.records import sealed, state_folder
from tasks.storage.s3 import is_s3

RESERVE_BYTES = 4 * 2**20  # the answers of some hundred calls in flight
DURABLE_S = 60.0  # a disk that has not taken a line by then hangs
LEAVING_S = 10.0  # for what is not yet durable at the end
FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalJournal:
    """One run's journal on this machine's disk. Lines are added on one thread at a time."""

    def __init__(self, output: str, job: str, run_id: str, about: Mapping[str, Any] | None = None) -> None:
        """`run_id` is the run's, or of a process of it; `about` is what a later run must know to complete its tables.

        Raises OutputError.
        """
        self.name, self.path = run_id, journal_path(output, job, run_id)
        self.trouble: OutputError | None = None  # why no further call may leave
        self.needed = False  # by a later run, although every call is in the tables
        refuge = refuge_folder(output, job) / self.path.name
        self._refuge: Path | None = None if is_s3(output) or refuge == self.path else refuge
        self._reserve = self.path.with_suffix(".reserve")
        self._rescued: int | None = None  # the handle of the file in the output, once there is one
        with explained(str(self.path)):
            self._handle = _open_locked(self.path)
            self._size = os.fstat(self._handle).st_size
            self._commits = Commits(lambda: files.disk.sync(self._handle))
            try:
                self._set_up({"output": output, "job": job, "run_id": run_id, **(about or {})})
            except BaseException:
                self.forget()
                raise

    def sent(self, call: dict[str, Any]) -> None:
        """The operating system has the line when this returns."""
        if self.trouble is not None:
            raise self.trouble
        try:
            self._append(line_of({"sent": call}))
        except OSError as error:
            raise self._failed(error) from None
        self._commits.soon()

    async def may_leave(self) -> None:
        """At once: the system has their lines."""

    def ended(self, call: dict[str, Any], answer: tuple[str, dict[str, Any]] | None = None) -> bytes:
        """A line that this disk does not take goes into the reserve, or into the output."""
        line = line_of({"ended": call} if answer is None else {"ended": call, "key": answer[0], "answer": answer[1]})
        try:
            if self._rescued is not None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._append(line)
        except OSError as error:
            self._failed(error)
            self._rescue(line, full=error.errno in FULL)
        return line

    async def durable(self, line: bytes) -> None:
        """Wait until a line survives a power loss. Raises OutputError if it does so nowhere."""
        if self._rescued is not None:  # written so
            return
        try:
            async with asyncio.timeout(DURABLE_S):  # `wait_for` may swallow that whoever waits is cut off
                await asyncio.wrap_future(self._commits.done())
        except OSError as error:  # TimeoutError is one
            self._failed(error)
            self._rescue(line, full=False)

    def recorded(self, calls: int) -> None:
        """Nothing is removed before the journal has served."""

    def forget(self) -> None:
        """Every call is in the tables and every answer is kept: the journal has served."""
        self.path.unlink(missing_ok=True)
        if self._rescued is not None and self._refuge is not None:
            self._refuge.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Keep the journal for the next run, since not everything was recorded."""
        self._commits.end()
        self._reserve.unlink(missing_ok=True)
        for handle in {self._handle, self._rescued} - {None, -1}:
            os.close(handle)  # type: ignore[arg-type]
        self._handle, self._rescued = -1, None

    def _set_up(self, about: dict[str, Any]) -> None:
        self._append(line_of({"run": about}))
        _set_aside_room(self._reserve)
        files.sync_files([self.path])

    def _append(self, line: bytes) -> None:
        try:
            files.write_all(self._handle, line)
        except OSError:
            with suppress(OSError):  # no half of a line before the next one
                os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)

    def _failed(self, error: OSError) -> OutputError:
        if self.trouble is None:
            reason = error.strerror or "the disk hangs"
            self.trouble = OutputError(
                f"Calls cannot be written down in {self.path.parent} ({reason}), so no more are made. "
                "Make room or mend the disk (VISIONFLOW_HOME is there), then run the same command again."
            )
        return self.trouble

    def _rescue(self, line: bytes, *, full: bool) -> None:
        """Put a line on the disk with the room that was kept for that, else into the output. Raises OutputError."""
        if full and self._reserve.exists():
            with suppress(OSError):
                self._reserve.unlink()
        if full:
            with suppress(OSError):
                self._append(line)
                files.disk.sync(self._handle)
                return
        try:
            if self._refuge is None:
                raise OSError(errno.EIO, "and the output is not on this machine")
            if self._rescued is None:
                self._rescued = _open_locked(self._refuge)
            files.write_all(self._rescued, line)
            files.disk.sync(self._rescued)
        except OSError:
            assert self.trouble is not None
            raise self.trouble from None


def line_of(entry: dict[str, Any]) -> bytes:
    """A line with its checksum."""
    return sealed(json.dumps(entry, default=str).encode()) + b"\n"


def _open_locked(path: Path) -> int:
    """A handle with the lock that is held while the run lives: an unlocked journal is a dead run's."""
    files.close_to_others(path.parent.parent)
    while True:
        handle = files.open_private(path)
        lock_in_time(handle)
        if is_there(handle, path):
            return handle
        os.close(handle)  # another run took it, not locked yet, for a dead run's, and removed it


def _set_aside_room(path: Path) -> None:
    """Blocks of the disk that can be given back when it is full. Raises OSError if it is so now."""
    handle = files.open_private(path)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, RESERVE_BYTES)
        else:  # macOS
            files.write_all(handle, bytes(RESERVE_BYTES))
    finally:
        os.close(handle)


def is_there(handle: int, path: Path) -> bool:
    """Whether the file still is what lies at the path: its last owner may have removed it before we had the lock."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def journal_path(output: str, job: str, run_id: str) -> Path:
    """The journal of one run."""
    return journal_folder(output, job) / f"{run_id}.jsonl"


def was_at_work(name: str) -> BusyError:
    """Prefect has run a process of a shard again, whose journal is there: the calls of the first would be lost."""
    return BusyError(f"{name} was at work before: its shard is gone on with by another process.")


def journal_folder(output: str, job: str) -> Path:
    """Where the journals of one job with one output lie on this machine, or for a fleet in the output."""
    return state_folder(output) / "journal" / folder_name(output, job)


def refuge_folder(output: str, job: str) -> Path:
    """Where they go on in a local output when VISIONFLOW_HOME takes no more."""
    return Path(output) / ".visionflow" / "journal" / folder_name(output, job)


def folder_name(output: str, job: str) -> str:
    """Names a job and its output."""
    where = output if "://" in output else os.path.abspath(output)
    return f"{job}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"


class Commits:
    """Group commit: calls `sync` whenever something is new, as often as the disk takes. For several threads.

    After a failure nothing counts as durable any more: what the system could not write it may have dropped.
    """

    def __init__(self, sync: Callable[[], None], *, patience: float = LEAVING_S) -> None:
        """`patience`: seconds for the last of them, at the end."""
        self._sync = sync
        self._patience = patience
        self._changed = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._dirty = self._over = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def soon(self) -> None:
        """Something was written; nobody waits for it."""
        with self._changed:
            self._wake()

    def done(self) -> "Future[None]":
        """Done once all that was written before is durable; OSError if it may never be."""
        future: Future[None] = Future()
        with self._changed:
            self._waiting.append(future)
            self._wake()
        return future

    def end(self) -> None:
        """Make durable what is left, and end the thread; one that the disk keeps waiting is left behind."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(self._patience)

    def _wake(self) -> None:
        self._dirty = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._commit_for_ever, name="visionflow-commits", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _commit_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._over)
                if not self._dirty:
                    return
                waiting, self._waiting, self._dirty = self._waiting, [], False
            try:
                if self._error is None:
                    self._sync()
            except OSError as error:
                self._error = error
            for future in waiting:
                if not future.set_running_or_notify_cancel():
                    continue  # a run that is cut off waits for nothing
                if self._error is None:
                    future.set_result(None)
                else:
                    future.set_exception(self._error)
