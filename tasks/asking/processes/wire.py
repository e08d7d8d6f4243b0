"""What a run and the processes that ask for it say to each other, over a socket that nobody else can reach."""

import pickle
import socket
import struct
from dataclasses import dataclass
from decimal import Decimal
from threading import Lock
from typing import Any, NamedTuple

from tasks.asking.halting import Halt
from tasks.asking.records import AnswerStore, EngineSettings, Outcome, Page

LENGTH = struct.Struct(">Q")


class Place(NamedTuple):
    """Whose journals they are."""

    output: str
    job: str


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything a process needs to begin; the key comes from its environment."""

    number: int  # of this process, from 0
    processes: int
    settings: EngineSettings
    store: AnswerStore
    place: Place
    preset: str
    spend_fd: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One page to ask about."""

    number: int
    page: Page
    attempts: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more will be asked."""


@dataclass(frozen=True, slots=True)
class Told:
    """How it ended for one page, and what the page has seen in all."""

    number: int
    outcome: Outcome
    attempts: int
    spent: Decimal


@dataclass(frozen=True, slots=True)
class Broken:
    """The engine itself failed on a page, in a way that nobody foresaw."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class News:
    """What a process has to say: how it ended for a page, the calls that have ended since, whether it has stopped."""

    told: Told | Broken | None
    calls: list[dict[str, Any]]
    in_flight: int
    halt: Halt | None
    last: bool = False


class Wire:
    """Messages, whole and in order; any thread may send, one receives. OSError or EOFError when the other is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._stream = end.makefile("rb")
        self._sending = Lock()

    def send(self, message: object) -> None:
        """Send one message."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._socket.sendall(LENGTH.pack(len(data)))
            self._socket.sendall(data)

    def receive(self) -> Any:
        """The next message."""
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        return pickle.loads(self._read(length))  # noqa: S301  # from our own process

    def _read(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:  # killed in the middle of a word
            raise EOFError
        return data

    def close(self) -> None:
        """Close our end."""
        self._stream.close()
        self._socket.close()
