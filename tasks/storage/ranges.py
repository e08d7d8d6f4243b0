"""Many locks in a few files: a byte for each key, by its hash, however many keys there are.

They are open file description locks where the system has them, so two holders in one process exclude each other too,
and the kernel frees them all when their holder ends. It looks through the locks of a file one by one: with 4,000 held,
taking and freeing one took 0.7 ms in one file, and 0.05 ms in 16 (0.02 with none held).
"""

import errno
import fcntl
import hashlib
import os
import struct
import sys
from pathlib import Path

from tasks.storage.files import open_private

FILES = 16
OFFSETS = 2**58  # within the largest file of any system, and more than there will ever be keys
# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid. It is not that of other systems.
FLOCK = struct.Struct("hhqqi4x")
OWN_EACH = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")


class RangeLocks:
    """Locks on keys, shared with whoever names the same folder. Its files are made when they are first used."""

    def __init__(self, folder: Path, scope: str = "") -> None:
        self._folder = folder
        self._scope = scope  # keys of another scope are other keys
        self._handles: dict[int, int] = {}
        self._ours: set[int] = set()

    def take(self, key: str) -> bool:
        """Whether the key is locked for us now; nobody waits. True too where the file system has no locks."""
        place = _place(self._scope + key)
        if place in self._ours or not self._set(fcntl.F_WRLCK, place):
            return False
        self._ours.add(place)
        return True

    def free(self, key: str) -> None:
        """Let others have it."""
        place = _place(self._scope + key)
        self._ours.discard(place)
        self._set(fcntl.F_UNLCK, place)

    def close(self) -> None:
        """Free all."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
        self._ours.clear()

    def _set(self, kind: int, place: int) -> bool:
        number, offset = place % FILES, place // FILES
        try:
            if OWN_EACH:
                fcntl.fcntl(self._file(number), fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
            else:
                flag = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(self._file(number), flag, 1, offset)
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        return True

    def _file(self, number: int) -> int:
        if number not in self._handles:
            self._handles[number] = open_private(self._folder / f"{number:x}.lock", os.O_RDWR | os.O_CREAT)
        return self._handles[number]


def _place(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % (OFFSETS * FILES)
