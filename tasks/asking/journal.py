"""The write-ahead journal: every call is noted before it leaves and again when it has ended.

A run that dies leaves its journal behind. The next run of the job finds it, completes the dead run's `calls` with the
calls that had ended, and lists those that had not as `maybe` paid. A journal lives on the disk of the machine that
made the calls, whatever the output is; it holds no key and no image.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from config.settings import home
from tasks.errors import OutputError
from tasks.storage.files import close_to_others, open_private
from tasks.storage.output import explained


class Journal:
    """Appends one line a call; each line reaches the operating system before the method returns, or OutputError."""

    def __init__(self, output: str, job: str, run_id: str) -> None:
        """Raises OutputError."""
        self.path = journal_path(output, job, run_id)
        with explained(str(self.path)):
            self._file = self._open()

    def _open(self) -> BinaryIO:
        close_to_others(self.path.parent.parent)
        while True:
            file = os.fdopen(open_private(self.path), "ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)  # held while the run lives: an unlocked journal is a dead run's
            if _is_there(file, self.path):
                return file
            file.close()  # another run took it, not locked yet, for a dead run's, and removed it

    def sent(self, call: dict[str, Any]) -> None:
        """A call is about to leave."""
        self._write({"sent": call})

    def ended(self, call: dict[str, Any]) -> None:
        """The call ended, well or badly, and this is its row."""
        self._write({"ended": call})

    def forget(self) -> None:
        """Every call is in the `calls` table: the journal has served."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Keep the journal for the next run, since not every call was recorded."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, default=str).encode() + b"\n"
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise OutputError(
                f"Calls cannot be written down in {self.path.parent} ({error.strerror}), so none is made. "
                "Make room there or set VISIONFLOW_HOME to another folder, then run the same command again."
            ) from None


@dataclass
class Leftover:
    """What a dead run's journal says: calls that ended, and calls that were in flight when it died."""

    run_id: str
    path: Path
    ended: list[dict[str, Any]] = field(default_factory=list)
    in_flight: list[dict[str, Any]] = field(default_factory=list)


def leftovers(output: str, job: str) -> Iterator[Leftover]:
    """Journals of dead runs of this job and output; those whose run is alive are left alone.

    Other runs may do the same at the same time: each journal is one run's, whose lock on it lasts while it is used.
    """
    folder = journal_folder(output, job)
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        with suppress(FileNotFoundError), path.open("r+", encoding="utf-8") as file:
            if _locked(file) and _is_there(file, path):
                yield _read(path, file)


def _is_there(file: IO[Any], path: Path) -> bool:
    """Whether the file still is what lies at the path: its last owner may have removed it before we had the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _locked(file: IO[str]) -> bool:
    """Whether we could take the lock, which whoever writes the journal holds."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path, lines: IO[str]) -> Leftover:
    left = Leftover(path.name.partition(".")[0], path)
    in_flight: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the last line of a run killed while it wrote
            continue
        if "sent" in entry:
            in_flight[entry["sent"]["call"]] = entry["sent"]
        elif "ended" in entry:
            in_flight.pop(entry["ended"]["call"], None)
            left.ended.append(entry["ended"])
    left.in_flight = list(in_flight.values())
    return left


def journal_path(output: str, job: str, run_id: str) -> Path:
    """The journal of one run."""
    return journal_folder(output, job) / f"{run_id}.jsonl"


def journal_folder(output: str, job: str) -> Path:
    """Where the journals of one job with one output lie on this machine."""
    where = output if "://" in output else os.path.abspath(output)
    return home() / "journal" / f"{job}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"
