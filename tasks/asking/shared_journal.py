"""The journal of a fleet's shard whose output is on S3: the same lines, in blocks beside the answers.

The machine that made the calls may be gone; whoever takes its shard over finds there what had left. A call leaves once
the block that names it is written. A block holds whatever was to be noted within `BLOCK_S`, so one PUT serves all calls
that begin and end in that time, and a call waits for it some tenth of a second. An answer is in a block before it has
its own record, as on a disk.

Once the calls are in a table, a block that holds what is left of all blocks before takes their place.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic, sleep
from typing import Any

from tasks.asking.journal import Commits, journal_folder, line_of, was_at_work
from tasks.errors import OutputError
from tasks.storage.conditional import ConditionsUnsupported, Found, write_always, write_if
from tasks.storage.files import write_private
from tasks.storage.lease import holder_of
from tasks.storage.output import explained
from tasks.storage.records import FOLDER, unsealed
from tasks.storage.s3 import (
    REQUEST_S,
    explain_s3,
    now,
    read_object,
    read_object_now,
    s3_filesystem,
    without_scheme,
    write_object,
)

BLOCK_S = 0.1
AWAY_S = 60.0  # for so long S3 may take no block; then others have the shard
TIDY = 32  # blocks, before those that have served are removed
READERS = 16
LONG_DEAD = timedelta(minutes=10)  # since a lease was renewed: no clock is so wrong


class SharedJournal:
    """Of one process of a shard; `about` names its lease."""

    def __init__(self, output: str, job: str, run_id: str, about: Mapping[str, Any]) -> None:
        """Raises OutputError."""
        self.name, self.place = run_id, f"{blocks_folder(output, job)}/{run_id}"
        self.trouble: OutputError | None = None
        self.needed = False
        self._run = line_of({"run": {"output": output, "job": job, "run_id": run_id, **about}})
        self._lock = Lock()
        self._new: list[bytes] = []
        self._open: dict[int, bytes] = {}
        self._ended: deque[bytes] = deque()  # and in no table yet
        self._recorded = self._blocks = self._first = 0
        with explained(self.place):
            self._begin()
        self._commits = Commits(self._write_block, patience=AWAY_S + REQUEST_S)

    def sent(self, call: dict[str, Any]) -> None:
        """A call is to leave, after `may_leave`; OutputError if an earlier line could not be written."""
        if self.trouble is not None:
            raise self.trouble
        line = line_of({"sent": call})
        with self._lock:
            self._open[call["call"]] = line
            self._new.append(line)

    async def may_leave(self) -> None:
        """Wait for the block that names the calls that were noted. OutputError if it cannot be written."""
        try:
            await asyncio.wrap_future(self._commits.done())
        except OSError as error:
            self.trouble = self.trouble or OutputError(f"Calls cannot be written down, so no more are made. {error}")
            raise self.trouble from None

    def ended(self, call: dict[str, Any], answer: tuple[str, dict[str, Any]] | None = None) -> bytes:
        """The call ended; its line goes with the next block."""
        line = line_of({"ended": call} if answer is None else {"ended": call, "key": answer[0], "answer": answer[1]})
        with self._lock:
            self._open.pop(call["call"], None)
            self._ended.append(line)
            self._new.append(line)
        self._commits.soon()
        return line

    async def durable(self, line: bytes) -> None:  # noqa: ARG002  # whichever it is, it is in the block then
        """Wait for the block with this line. OutputError if it cannot be written."""
        await self.may_leave()

    def recorded(self, calls: int) -> None:
        """So many calls are in a table, those first that ended first."""
        with self._lock:
            for _ in range(min(calls - self._recorded, len(self._ended))):
                self._ended.popleft()
            self._recorded = calls

    def forget(self) -> None:
        """Remove all blocks."""
        self._commits.end()
        with explained(self.place):
            remove_blocks(self._names(self._first, self._blocks))

    def close(self) -> None:
        """Leave them to whoever goes on."""
        self._commits.end()

    def _begin(self) -> None:
        """The first block. BusyError if there is one."""
        (name,) = self._names(0, 1)
        try:
            new = now(write_if, name, self._run, None) is not None
        except ConditionsUnsupported:
            new = now(write_always, name, self._run) is not None
        if not new:
            raise was_at_work(self.name)
        self._blocks = 1

    def _write_block(self) -> None:
        sleep(BLOCK_S)
        with self._lock:
            tidy = self._blocks - self._first >= TIDY
            lines = [self._run, *self._open.values(), *self._ended] if tidy else self._new
            self._new = []
        if not lines:
            return
        before = self._blocks
        self._write(lines)
        if tidy:
            remove_blocks(self._names(self._first, before))
            self._first = before

    def _write(self, lines: list[bytes]) -> None:
        """One block more; S3 may be away for a while."""
        (name,) = self._names(self._blocks, self._blocks + 1)
        began = monotonic()
        while True:
            try:
                now(write_object, without_scheme(name), b"".join(lines))
            except Exception as error:
                if monotonic() - began > AWAY_S:
                    raise OSError(explain_s3(error, name)) from error
                sleep(1.0)
            else:
                self._blocks += 1
                return

    def _names(self, start: int, end: int) -> list[str]:
        return [f"{self.place}/{number:08}.jsonl" for number in range(start, end)]


def remove_blocks(names: list[str]) -> None:
    """A thousand at a time. The storage's own error."""
    if names:
        s3_filesystem().rm([without_scheme(name) for name in names])


def brought(output: str, job: str, of: str, but: str) -> Iterator[tuple[str, list[str]]]:
    """Journals of dead shards, brought to this machine: the name of each, and its blocks, for when it was taken in.

    Only those whose names begin with `of`, whose shard is the caller's then; not the caller's own, `but`.
    """
    place = blocks_folder(output, job)
    with explained(place, verb="read"), ThreadPoolExecutor(READERS) as readers:
        found: dict[str, dict[str, Any]] = s3_filesystem().find(without_scheme(place), detail=True)
        blocks: dict[str, list[str]] = {}
        for path in sorted(path for path in found if path.endswith(".jsonl")):  # some servers list folders too
            blocks.setdefault(path.split("/")[-2], []).append(f"s3://{path}")
        for name, paths in blocks.items():
            if not name.startswith(of) or name == but:
                continue
            try:
                lines = b"".join(readers.map(read_object_now, paths)).splitlines(keepends=True)
            except FileNotFoundError:  # it has just been tidied
                continue
            if of or not _at_work(lines[0]):
                here = journal_folder(output, job) / f"{name}.jsonl"
                write_private(here, b"".join(dict.fromkeys(lines)))
                last: datetime = found[without_scheme(paths[-1])]["LastModified"]
                os.utime(here, (last.timestamp(), last.timestamp()))
                yield name, paths


def _at_work(first_line: bytes) -> bool:
    """Whether a process of the shard whose journal begins so renews its lease."""
    lease = json.loads(unsealed(first_line.rstrip(b"\n"), first_release=()))["run"]["lease"]
    try:
        data, etag, renewed = now(read_object, lease)
    except FileNotFoundError:
        return False
    recent = renewed is None or datetime.now(UTC) - renewed < LONG_DEAD
    return recent and holder_of(Found(data, etag or "")) is not None


def blocks_folder(output: str, job: str) -> str:
    """Where the blocks of a job lie in an output on S3."""
    return f"{output.rstrip('/')}/{FOLDER}/journal/{job}"
