"""Disks that fail: in the place of the system's calls, they count what is done below a folder and refuse in time."""

import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tasks.storage.files import Disk


@dataclass
class FailingDisk(Disk):
    """Everything below `folder` fails from its `fails_from`-th operation on; `short`: half is written before it does.

    `reserve`: it is full, and has room again for those who give back a file of that suffix, unless that is empty.
    """

    folder: Path
    number: int
    fails_from: int = 1_000_000
    short: bool = False
    reserve: str = ""
    done: int = 0
    failed: int = 0
    room: bool = False
    _paths: dict[int, Path] = field(default_factory=dict)

    def open(self, path: Path, flags: int, mode: int) -> int:
        if flags & os.O_CREAT and not path.exists():
            self._may_fail(path)
        handle = super().open(path, flags, mode)
        self._paths[handle] = path
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        try:
            self._may_fail(self._paths.get(handle))
        except OSError:
            if self.short and len(data) > 1:
                self.short = False
                return super().write(handle, data[: len(data) // 2])
            raise
        return super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._may_fail(self._paths.get(handle))
        super().sync(handle)

    def replace(self, old: Path, new: Path) -> None:
        self._may_fail(new)
        super().replace(old, new)

    def _may_fail(self, path: Path | None) -> None:
        if path is None or not path.is_relative_to(self.folder) or self.room:
            return
        self.done += 1
        if self.done < self.fails_from:
            return
        if self.failed and self.reserve and not list(self.folder.rglob(f"*{self.reserve}")):
            self.room = True  # what was given back is enough for what is in flight
            return
        self.failed += 1
        raise OSError(self.number, os.strerror(self.number))


FULL, BROKEN = errno.ENOSPC, errno.EIO


def power_loss(home: Path) -> None:
    """Every record that was kept since the last checkpoint is empty, as file systems leave them; the journal is not."""
    for path in (home / "results").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    shutil.rmtree(home / "results" / "batches", ignore_errors=True)
