"""Files of this machine that must be whole, and those that are the user's alone: every such write goes through here.

`disk` holds the system calls that fail when a disk is full or broken; tests put one in its place that fails when and
how they say, so that no write is left out.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from config.settings import home

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700


class Disk:
    """The system's own calls."""

    def open(self, path: Path, flags: int, mode: int) -> int:
        """A new handle."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def write(self, handle: int, data: memoryview) -> int:
        """How many bytes were written, which may be fewer."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Returns once what was written would survive a power loss."""
        os.fsync(handle)

    def replace(self, old: Path, new: Path) -> None:
        """Rename, over what may be there."""
        old.replace(new)


disk = Disk()


def open_private(path: Path, flags: int = os.O_WRONLY | os.O_CREAT | os.O_APPEND) -> int:
    """A handle of a file that only its owner may read, whatever the umask; its folders are made the same way."""
    try:
        handle = disk.open(path, flags, PRIVATE)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        make_private_folder(path.parent)
        handle = disk.open(path, flags, PRIVATE)
    if os.fstat(handle).st_mode & 0o777 != PRIVATE:  # an older file, or a umask that takes the owner's own rights
        with suppress(PermissionError):  # another user's, who lets us write to it
            os.fchmod(handle, PRIVATE)
    return handle


def make_private_folder(folder: Path) -> None:
    """The folder and those above it that are missing, for the user alone, whatever the umask."""
    missing = [folder, *folder.parents]
    there = next(place for place, above in enumerate(missing) if above.is_dir())
    for path in reversed(missing[:there]):
        with suppress(FileExistsError):
            path.mkdir()
        path.chmod(PRIVATE_FOLDER)


def close_to_others(folder: Path) -> None:
    """Make a folder of ours the user's alone, also one that the first release made; so is what lies below it then.

    Not for VISIONFLOW_HOME itself, which a person may have chosen for more than this.
    """
    make_private_folder(folder)
    if folder.stat().st_mode & 0o077:
        with suppress(PermissionError):  # another user's
            folder.chmod(PRIVATE_FOLDER)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """All of it, however many calls that takes. Raises OSError."""
    rest = memoryview(data).cast("B")
    while rest:
        written = disk.write(handle, rest)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def write_private(path: Path, data: bytes) -> None:
    """A small file for the user alone: whole or not at all after a kill; `sync_files` makes it survive a power loss."""
    _write_beside(path, data, lambda partial: open_private(partial, NEW), durable=False)


def write_shared(path: Path, data: bytes | memoryview) -> None:
    """A file with the rights that the umask gives, whole or not at all, also after a power loss. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_beside(path, data, lambda partial: disk.open(partial, NEW, 0o666), durable=True)
    sync_folder(path.parent)


NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _write_beside(path: Path, data: bytes | memoryview, create: Callable[[Path], int], *, durable: bool) -> None:
    """Write under a hidden name in the same folder and rename, so that a reader never sees half of it."""
    partial = path.with_name(f".{path.name[:200]}.tmp-{token_hex(4)}")
    handle = create(partial)
    try:
        try:
            write_all(handle, data)
            if durable:
                disk.sync(handle)
        finally:
            os.close(handle)
        disk.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def sync_files(paths: Iterable[Path]) -> None:
    """Make files that were written a moment ago, and their names, survive a power loss. Raises OSError."""
    folders: set[Path] = set()
    for path in paths:
        with suppress(FileNotFoundError):  # replaced or set aside meanwhile
            _sync(path)
            folders.add(path.parent)
    below_home = {above for folder in folders for above in folder.parents if above.is_relative_to(home())}
    for folder in folders | below_home:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make names in a folder survive a power loss."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.sync(handle)
    finally:
        os.close(handle)
