"""Intents: what was meant to be submitted, written down before it is, and which batch it became.

Whoever dies between `create` and its reply leaves an intent without a batch: the next run must find out whether there
is one before it asks again. The log lies with the answers: on this machine for a local output, in the output on S3, so
that a run on another machine finds it too. An intent holds no image and no key.
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from tasks.asking.question import request_key
from tasks.errors import OutputError
from tasks.storage.conditional import read_found, write_always
from tasks.storage.files import sync_files, sync_folder, write_private
from tasks.storage.output import explained
from tasks.storage.records import Damaged, sealed, unsealed
from tasks.storage.s3 import is_s3, names_below, now, s3_filesystem

FIRST_RELEASE = ()  # it had no intents


@dataclass(frozen=True, slots=True)
class Intended:
    """One request of a batch, without its image: all that its answer needs to be kept and listed."""

    key: str
    uri: str
    page: int
    sha256: str
    step: int
    attempt: int
    model: str
    max_tokens: int
    worst_usd: str = "0"

    @property
    def request_key(self) -> bytes:
        """Names it among all that is asked."""
        return request_key(self.key, self.max_tokens)

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Intent:
    """One batch that was, or was to be, submitted."""

    word: str
    written_at: datetime
    asked: tuple[Intended, ...]
    endpoint: str = ""  # its identity: another one knows nothing of this batch
    batch_id: str | None = None
    run_id: str = ""  # of who was to submit it; no earlier run knows of it

    @property
    def worst_usd(self) -> Decimal:
        """What it may cost at most, in US dollars."""
        return sum((Decimal(asked.worst_usd) for asked in self.asked), Decimal(0))

    def to_bytes(self) -> bytes:
        """As it is written down."""
        record = {
            "word": self.word,
            "written_at": self.written_at.isoformat(),
            "endpoint": self.endpoint,
            "batch_id": self.batch_id,
            "run_id": self.run_id,
            "asked": [asked.to_record() for asked in self.asked],
        }
        return sealed(json.dumps(record).encode(), self.word)

    @classmethod
    def from_bytes(cls, data: bytes, word: str) -> "Intent":
        """As it was written down; Damaged where it was not so."""
        try:
            record: dict[str, Any] = json.loads(unsealed(data, word, first_release=FIRST_RELEASE))
            asked = tuple(Intended(**one) for one in record["asked"])
            written_at = datetime.fromisoformat(record["written_at"])
            return cls(word, written_at, asked, record["endpoint"], record["batch_id"], record.get("run_id", ""))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise error if isinstance(error, Damaged) else Damaged("it is no intent") from None


class Place(Protocol):
    """Where intents lie: each write is durable when it returns. The storage's own errors."""

    def write(self, name: str, data: bytes) -> None:
        """Write or replace one."""

    def names(self) -> list[str]:
        """Of all that there are."""

    def read(self, name: str) -> bytes | None:
        """One; None where it is gone."""

    def remove(self, name: str) -> None:
        """Remove one; nothing where it is gone."""


class LocalPlace:
    """A private folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, data: bytes) -> None:
        """Write or replace one."""
        write_private(self.folder / name, data)
        sync_files([self.folder / name])

    def names(self) -> list[str]:
        """Of all that there are."""
        return sorted(path.name for path in self.folder.glob("*.json"))

    def read(self, name: str) -> bytes | None:
        """One; None where it is gone."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Remove one; nothing where it is gone."""
        if (self.folder / name).exists():
            (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)


class S3Place:
    """A prefix on S3, where a write that was acknowledged is durable."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def write(self, name: str, data: bytes) -> None:
        """Write or replace one."""
        now(write_always, f"{self.prefix}/{name}", data)

    def names(self) -> list[str]:
        """Of all that there are."""
        try:
            found = now(names_below, self.prefix)
        except FileNotFoundError:
            return []
        return [uri.rpartition("/")[2] for uri in found if uri.endswith(".json")]

    def read(self, name: str) -> bytes | None:
        """One; None where it is gone."""
        found = now(read_found, f"{self.prefix}/{name}")
        return None if found is None else found.data

    def remove(self, name: str) -> None:
        """Remove one; nothing where it is gone."""
        fs = s3_filesystem()
        if fs.exists(f"{self.prefix}/{name}"):
            fs.rm_file(f"{self.prefix}/{name}")


class IntentLog:
    """The intents of one job and output. One run at a time uses it: that which has its turn."""

    def __init__(self, uri: str, endpoint: str = "", run_id: str = "") -> None:
        """`uri` is a folder, or a prefix on S3; `endpoint` the identity of who is asked, `run_id` of who asks."""
        self.uri = uri
        self.endpoint = endpoint
        self.run_id = run_id
        self._place: Place = S3Place(uri) if is_s3(uri) else LocalPlace(Path(uri))

    def write(self, word: str, asked: list[Intended]) -> Intent:
        """Note what is about to be submitted. Raises OutputError: then it must not be."""
        intent = Intent(word, datetime.now(UTC), tuple(asked), self.endpoint, run_id=self.run_id)
        self._write(intent)
        return intent

    def named(self, intent: Intent, batch_id: str) -> Intent:
        """Note which batch it became. Raises OutputError; the batch is found again all the same."""
        intent = replace(intent, batch_id=batch_id)
        self._write(intent)
        return intent

    def done(self, intent: Intent) -> None:
        """It never became a batch, or all of that is kept. Raises OutputError."""
        with explained(self.uri):
            self._place.remove(f"{intent.word}.json")

    def place(self, intent: Intent) -> str:
        """Where it is written down."""
        return f"{self.uri}/{intent.word}.json"

    def any(self) -> bool:
        """Whether anything was not done. Raises OutputError."""
        with explained(self.uri, verb="read"):
            return bool(self._place.names())

    def each(self) -> Iterator[Intent]:
        """What was not done, one after the other, for each is some megabytes.

        OutputError if that cannot be told, since asking again could pay twice.
        """
        with explained(self.uri, verb="read"):
            names = self._place.names()
        for name in names:
            intent = self._read(name)
            if intent is not None:
                yield intent

    def open(self) -> list[Intent]:
        """All that was not done, oldest first. Raises OutputError as `each` does."""
        return sorted(self.each(), key=lambda intent: intent.written_at)

    def whole(self, intent: Intent) -> Intent:
        """The intent with all that was asked, where that was let go of. Raises OutputError."""
        if intent.asked:
            return intent
        written = self._read(f"{intent.word}.json")
        if written is None:
            raise OutputError(
                f"{self.place(intent)} said what was submitted, and is gone: the answers of the batch "
                f"{intent.batch_id} cannot be told apart without it. Put it back, then run the same command again."
            )
        return written

    def _read(self, name: str) -> Intent | None:
        with explained(self.uri, verb="read"):
            data = self._place.read(name)
        try:
            return None if data is None else Intent.from_bytes(data, name.removesuffix(".json"))
        except Damaged as damage:
            raise OutputError(
                f"{self.uri}/{name} says what was submitted, and is damaged ({damage}). Nothing is asked until "
                "that is known: cancel or wait for the batches of this key that still run, then remove the file."
            ) from None

    def _write(self, intent: Intent) -> None:
        with explained(self.uri):
            self._place.write(f"{intent.word}.json", intent.to_bytes())


def new_word() -> str:
    """A word that no other batch has."""
    return secrets.token_hex(16)


def custom_id(word: str, number: int) -> str:
    """The id of a request: of its batch, and its place in it."""
    return f"{word}-{number}"


def place_of(word: str, found: object) -> int | None:
    """Which request of the batch an id names; None for one of another batch."""
    if not isinstance(found, str):
        return None
    ours, _, number = found.partition("-")
    return int(number) if ours == word and number.isascii() and number.isdecimal() and len(number) < 7 else None
