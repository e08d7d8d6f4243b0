"""Child processes that decode, one for each core, kept warm and replaced when a file kills or hangs one."""

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from queue import LifoQueue
from time import monotonic
from typing import Any

import tasks
from tasks.errors import ImageError, Signal, StopRun
from tasks.preparing.containers.container import foreign_bytes
from tasks.types import ImageRules, PreparedImage

FRAME = struct.Struct(">IQ")  # lengths of the JSON and of the bytes that follow
MAX_IMAGES = 1000  # a child is replaced after so many, so that what decoders leak cannot add up
MEMORY_BYTES = 3 * 2**30  # address space of one child: what preparing one image may take at most
MOST_ANSWER_BYTES = 2**30  # fifty pages of the largest request are half of it
# Of the time a file may take, the share a processor must have worked on it for the time to be the file's own fault. A
# third are 20 seconds; an honest image takes less than 5, whatever else the machine does meanwhile.
OWN_SHARE = 1 / 3
LEAVING_SECONDS = 5.0  # until a process that closed its socket has ended
START_SECONDS = 60.0  # for a child to start on a busy machine; not part of an image's own time
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME")


class ChildLostError(Signal):
    """The child ended before it answered; `status` as Popen has it: the negative number of a signal."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__(status)
        self.status = status


class OutOfTimeError(Signal):
    """The child did not answer in time, of which it had a processor for `worked` seconds."""

    def __init__(self, worked: float) -> None:
        super().__init__(worked)
        self.worked = worked


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a child says of a file: pages and their bytes, or an error; and whether it can take another file."""

    head: dict[str, Any]
    body: bytearray

    @property
    def fit(self) -> bool:
        """A child that ran out of memory may have none left for the next file."""
        return not self.head.get("exhausted")


class Child:
    """One decoding process at the other end of a socket, which ends when the socket closes."""

    def __init__(self) -> None:
        self._process, self._socket = start_module(
            "tasks.preparing.worker", _child_environment(), errors=subprocess.DEVNULL
        )
        self.images = 0
        self._worked = 0.0  # seconds of a processor, until the file it has now
        try:
            self._receive(1, monotonic() + START_SECONDS)
        except (OSError, ChildLostError) as error:
            self.end()
            raise StopRun(
                f"Images cannot be decoded: the decoder does not start (exit status {self._process.returncode}). "
                "Check the installation with `python -m tasks.preparing.worker`"
            ) from error

    def request(self, head: dict[str, Any], data: bytes, seconds: float) -> Decoded:
        """The child's answer; TimeoutError when it takes too long, ChildLostError when it ended.

        After either the child is of no use any more.
        """
        self.images += 1
        deadline = monotonic() + seconds
        text = json.dumps(head).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(FRAME.pack(len(text), len(data)) + text)
            self._socket.sendall(data)
            text_length, data_length = FRAME.unpack(self._receive(FRAME.size, deadline))
            if text_length + data_length > MOST_ANSWER_BYTES:
                raise ChildLostError
            answer = json.loads(self._receive(text_length, deadline))
            self._worked = float(answer["worked"])
            return Decoded(answer, self._receive(data_length, deadline))
        except TimeoutError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:  # it is gone, or speaks otherwise than ours do
            raise ChildLostError from error

    def end(self) -> float:
        """Kill the process; nothing it holds is worth keeping. Seconds of a processor that its last file took."""
        self._socket.close()
        self._process.kill()
        try:
            _, status, used = os.wait4(self._process.pid, 0)
        except ChildProcessError:  # waited for before
            return 0.0
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return used.ru_utime + used.ru_stime - self._worked

    def status(self) -> int | None:
        """How the process ended by itself; None where it still runs."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(LEAVING_SECONDS)
        return None

    def _receive(self, size: int, deadline: float) -> bytearray:
        buffer, done = bytearray(size), 0
        view = memoryview(buffer)
        while done < size:
            remaining = deadline - monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            received = self._socket.recv_into(view[done:])
            if not received:
                raise ChildLostError
            done += received
        return buffer


class Pool:
    """As many children as there are cores; a thread that finds none free waits for one."""

    def __init__(self, size: int) -> None:
        # Last in, first out: a machine that decodes now and then keeps one warm child, not all of them.
        self._slots: LifoQueue[Child | None] = LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    def request(self, head: dict[str, Any], data: bytes, seconds: float) -> Decoded:
        """An answer from any child. A file that lost its child gets a second one: it may not be the file's fault."""
        child, fit = self._slots.get(), None
        try:
            try:
                answer, fit = _ask(child or Child(), head, data, seconds)
            except ChildLostError:
                answer, fit = _ask(Child(), head, data, seconds)
            return answer
        finally:
            self._slots.put(fit)

    def close(self) -> None:
        """End the children that are idle."""
        for _ in range(self._slots.qsize()):
            child = self._slots.get_nowait()
            if child:
                child.end()


def _ask(child: Child, head: dict[str, Any], data: bytes, seconds: float) -> tuple[Decoded, Child | None]:
    """The child's answer, and the child if it can take another file."""
    try:
        answer = child.request(head, data, seconds)
    except TimeoutError:
        raise OutOfTimeError(child.end()) from None
    except ChildLostError as error:
        status = child.status()
        child.end()
        raise ChildLostError(status) from error
    except BaseException:
        child.end()
        raise
    if answer.fit and child.images < MAX_IMAGES:
        return answer, child
    child.end()
    return answer, None


def decode_in_child(data: bytes, source_format: str, rules: ImageRules) -> list[PreparedImage]:
    """The pages of a file decoded where a crash, a hang or a flood of memory costs this one file.

    ImageError `too_slow` and `unsafe` are the file's own fault and will be the same again; `interrupted` may not be.
    """
    try:
        answer = _pool.request({"format": source_format, "rules": asdict(rules)}, data, rules.seconds)
    except OutOfTimeError as error:
        said = f"Decoding took longer than {rules.seconds:g} seconds and was stopped"
        if error.worked < rules.seconds * OWN_SHARE:
            raise ImageError("interrupted", f"{said}; most of them it waited for the machine, which was busy") from None
        raise ImageError("too_slow", said) from None
    except ChildLostError as error:
        if error.status == -signal.SIGKILL:  # which no decoder does to itself
            message = "The decoder was killed, twice; the system does that where memory is short"
            raise ImageError("interrupted", message) from None
        raise ImageError("unsafe", f"The {source_format} decoder crashed on this file, twice") from None
    if "error" in answer.head:
        code, message = map(str, answer.head["error"])
        raise ImageError(code, message)
    with foreign_bytes(source_format):  # a decoder that was taken over may answer anything
        return _pages(answer)


def _pages(answer: Decoded) -> list[PreparedImage]:
    pages, at, body = [], 0, memoryview(answer.body)
    for page in answer.head["pages"]:
        sent = bytes(body[at : at + page.pop("size")])
        at += len(sent)
        pages.append(PreparedImage(**page, data=sent, sha256=sha256(sent).hexdigest()))
    return pages


def _child_environment() -> dict[str, str]:
    """No key, no address, no credential: a decoder that is taken over finds none in its environment."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return kept | {"VIPS_CONCURRENCY": "1", "VIPS_DISC_THRESHOLD": "4g", "OPENBLAS_NUM_THREADS": "1"}


def _reset() -> None:
    """A forked process must not speak through its parent's sockets."""
    global _pool
    _pool = Pool(cores())


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


_pool = Pool(cores())
atexit.register(lambda: _pool.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset)


def start_module(
    module: str, environment: Mapping[str, str], *, errors: int | None = None, pass_fds: Collection[int] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, whose standard input is a socket, and our end of it; `errors` is Popen's `stderr`.

    It is in a process group of its own: Ctrl-C is for the parent, which says what becomes of work under way.
    """
    ours, theirs = socket.socketpair()
    root = Path(next(iter(tasks.__path__))).resolve().parent
    with theirs:
        process = subprocess.Popen(
            # -P: a folder named `tasks` where the user happens to stand must not be imported
            [sys.executable, "-P", "-m", module],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**environment, "PYTHONPATH": str(root)},
            pass_fds=pass_fds,
            process_group=0,
        )
    return process, ours
