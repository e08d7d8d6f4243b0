"""Locks between processes of one machine, which the kernel frees when their holder ends, however it ends."""

import errno
import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

# What a file system says that knows no locks, as some on a network and in user space do not.
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class LocksUnsupported(OSError):
    """The file system that the lock should lie on has none."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a run, by its process and machine, and since when."""

    run_id: str
    process: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    since: str = field(default_factory=_now)

    @classmethod
    def read(cls, text: str | bytes) -> "Holder | None":
        """As `json` wrote it; None for anything else."""
        try:
            facts = json.loads(text)
            return cls(str(facts["run_id"]), int(facts["process"]), str(facts["host"]), str(facts["since"]))
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def json(self) -> dict[str, object]:
        """For the file or object that stands for the lock."""
        return asdict(self)

    def __str__(self) -> str:
        return f"run {self.run_id} (process {self.process} on {self.host}, since {self.since})"


class FileLock:
    """An advisory lock (flock) on a file, which names its holder and stays when the lock is let go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder: Holder | None = None  # as the file named it at the last look: who has it, or had it before us
        self._file: BinaryIO | None = None

    def take(self, holder: Holder) -> bool:
        """Whether it is ours now; nobody waits. LocksUnsupported, or another OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                self.holder = Holder.read(file.read())
            return False
        except OSError as error:
            file.close()
            if error.errno in UNSUPPORTED:
                raise LocksUnsupported(error.errno, error.strerror, str(self.path)) from None
            raise
        self.holder = Holder.read(file.read())
        file.seek(0)
        file.truncate()
        file.write(json.dumps(holder.json).encode())
        self._file = file
        return True

    def release(self) -> None:
        """Let it go, if it is ours. The file stays: whoever waits for it looks at it."""
        if self._file is not None:
            self._file.close()
            self._file = None
