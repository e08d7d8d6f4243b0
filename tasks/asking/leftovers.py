"""Journals of dead runs, read line by line: what had ended, with its answers, and what was in flight."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.asking.journal import is_there, journal_folder, refuge_folder
from tasks.asking.shared_journal import brought, remove_blocks
from tasks.storage.output import explained
from tasks.storage.records import DAMAGED, move_to_damaged, unsealed
from tasks.storage.s3 import is_s3

FIRST_RELEASE = (b'{"sent":', b'{"ended":')
ENTRY_KINDS = ("run", "sent", "ended")

log = logging.getLogger("visionflow")


@dataclass
class Leftover:
    """A dead run's journal, and what it went on in when VISIONFLOW_HOME took no more; locked while it is used."""

    run_id: str
    name: str  # of its files, without suffix: a run of several processes left several, RUN.1, RUN.2
    paths: list[Path]
    damaged: list[str] = field(default_factory=list)
    """Lines that say nothing, by file and number, once all were read."""
    blocks: list[str] = field(default_factory=list)
    """Where it was brought from."""

    @property
    def part(self) -> str:
        """What the names of its parts begin with after `part-`: of a process of a fleet `003-0-`, else nothing."""
        tag = self.name.partition(".")[2]
        return f"{tag}-" if "-" in tag else ""

    def entries(self) -> Iterator[dict[str, Any]]:
        """Each line that is whole: {"run": ...}, {"sent": call}, or {"ended": call, "key": ..., "answer": ...}."""
        self.damaged = []
        for path in self.paths:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    entry = _entry(line)
                    if entry is not None:
                        yield entry
                    elif line.endswith(b"\n"):  # else the run was killed while it wrote it
                        self.damaged.append(f"{path}:{number}")

    def about(self) -> dict[str, Any]:
        """What the run said of itself when it began; nothing in the first release."""
        first = next(self.entries(), {})
        return dict(first.get("run", {}))

    def reject(self, call: dict[str, Any]) -> None:
        """The line of this call is whole, but what it says cannot be true."""
        self.damaged.append(f"{self.paths[0]}, call {call.get('call')}")

    def forget(self) -> None:
        """Everything was taken in. A journal with damaged lines is moved to `damaged/`, with one warning."""
        with explained(str(self.paths[0])):
            remove_blocks(self.blocks)
        for path in self.paths:
            path.with_suffix(".reserve").unlink(missing_ok=True)
            if not self.damaged:
                path.unlink(missing_ok=True)
        if self.damaged:
            moved = [
                str(move_to_damaged(path, path.parents[2] / DAMAGED / "journal" / path.parent.name / path.name))
                for path in self.paths
            ]
            log.warning(
                "%s is damaged in %d places. What could be read was taken in, and it was moved to %s.",
                *(self.paths[0], len(self.damaged), " and ".join(moved)),
            )


def leftovers(output: str, job: str, of: str = "", but: str = "") -> Iterator[Leftover]:
    """Journals of dead runs of this job and output; those whose run is alive are left alone.

    Only those of processes whose names begin with `of`; `but` is the caller's own.

    Other runs may do the same at the same time: each journal is one run's, whose lock on it lasts while it is used.
    """
    folders, blocks = [journal_folder(output, job)], dict[str, list[str]]()
    if is_s3(output):
        blocks = dict(brought(output, job, of, but))
    else:
        folders.append(refuge_folder(output, job))
    for left in leftovers_in(list(dict.fromkeys(folders)), of):
        left.blocks = blocks.get(left.name, [])
        yield left


def leftovers_in(folders: list[Path], of: str = "") -> Iterator[Leftover]:
    """The same for the folders of one job and output."""
    names = {path.stem for folder in folders for path in folder.glob(f"{of}*.jsonl")}
    for name in sorted(names):
        paths = [folder / f"{name}.jsonl" for folder in folders]
        with _locked(paths) as ours:
            if ours:
                yield Leftover(name.partition(".")[0], name, ours)


@contextmanager
def _locked(paths: list[Path]) -> Iterator[list[Path]]:
    """Those of the files that are there, or none if a live run, or another that looks, has one of them."""
    ours: list[Path] = []
    with ExitStack() as handles:
        for path in paths:
            with suppress(FileNotFoundError):
                handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                handles.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    ours = []
                    break
                if is_there(handle, path):
                    ours.append(path)
        yield ours


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is torn, changed or none of ours."""
    try:
        entry = json.loads(unsealed(line.rstrip(b"\n"), first_release=FIRST_RELEASE))
        (kind,) = [kind for kind in ENTRY_KINDS if kind in entry]
        call = entry[kind]
        known = isinstance(call, dict) and (kind == "run" or isinstance(call["call"], int | None))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if known else None
