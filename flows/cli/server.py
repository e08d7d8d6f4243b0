"""Prefect's server: the one that PREFECT_API_URL or the profile names, or one of our own on this machine.

Importing Prefect and starting its server are what a person waits for, so ours is started as a process of its own before
anything else is imported. Runs at the same time share it; the last one stops it, unless VISIONFLOW_KEEP_SERVER=1.
"""

import atexit
import fcntl
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import IO, TYPE_CHECKING

from config.settings import home, keep_server
from flows.cli.server_process import (
    END_TIMEOUT_S,
    LAST_LOOK_S,
    LOOK_S,
    START_TIMEOUT_S,
    ServerProcess,
    healthy,
    lets_in,
    log_path,
    start_noted,
)
from tasks.errors import StopRun
from tasks.storage.files import open_private
from tasks.storage.locks import lock_in_time

if TYPE_CHECKING:
    import subprocess

# Ours say what a person needs; Prefect's own lines go to its API, for the UI, and not over the progress bars.
CLIENT_ENVIRONMENT = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL": "INFO",  # the flow's own lines; a task's would be too many
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # Each retry waits twice as long as the one before, from 2 s on: a server that is gone must not hold up the end.
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
# Servers that this process uses until it ends.
held: list["Server"] = []
HELD_S = END_TIMEOUT_S + 20.0  # the longest that whoever starts or stops a server holds it: one that will not end
NEW_HOME_S = 12.0  # a home that is migrated starts sooner than this

SERVER_POLL_S = 1.0
PATIENCE_S = 8.0  # a server that answers nothing for so long, when nothing else is to be done
SETTLE_S = 5.0  # for the last events and logs


def keep_prefect_quiet() -> None:
    """Before it is imported: it says nothing in the terminal, and tells its maker nothing."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Server:
    """A Prefect API that is there, or on its way. `ready` waits for it; `release` lets go of it."""

    def __init__(
        self, url: str, *, process: "subprocess.Popen[bytes] | None" = None, lock: IO[str] | None = None
    ) -> None:
        self.url = url
        self._process = process
        self._lock = lock
        self._started = monotonic()

    @property
    def ours(self) -> bool:
        """Whether it was started by visionflow."""
        return self._lock is not None or self._process is not None

    def set_environment(self) -> None:
        """Make Prefect, which is imported after this, talk to it."""
        os.environ["PREFECT_API_URL"] = self.url
        if self.ours and (auth_string := _auth_string()):
            os.environ["PREFECT_API_AUTH_STRING"] = auth_string
        keep_prefect_quiet()

    def ready(self, say: Callable[[str], None]) -> str:
        """Wait until it answers and return its URL; StopRun says why it does not. `say` explains a long wait."""
        explained = False
        while not healthy(self.url, LOOK_S if self.ours else LAST_LOOK_S):
            waited = monotonic() - self._started
            if self._process is not None and self._process.poll() is not None:
                raise StopRun(f"Prefect's server ended while starting. Its log: {log_path()}")
            if not self.ours or waited > START_TIMEOUT_S:
                raise StopRun(f"Prefect's server at {self.url} does not answer. Start it, or unset PREFECT_API_URL.")
            if waited > NEW_HOME_S and not explained:
                say("Prefect sets up its database in a new home, once: about half a minute more ...")
                explained = True
            sleep(0.05)
        if self.ours and not lets_in(self.url, _auth_string()):
            raise StopRun(
                f"Prefect's server at {self.url} asks for its auth string. Set PREFECT_SERVER_API_AUTH_STRING to "
                "what it was when the server was started."
            )
        return self.url

    def release(self) -> None:
        """Stop our server if nobody else uses it and it is not to be kept."""
        if self._lock is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another run uses it
        if (noted := ServerProcess.noted()) and not (keep_server() and noted.full):
            noted.stop()
        self._lock.close()


def find_or_start(waiting: Callable[[str], None] | None = None) -> Server:
    """The configured server, else ours if it is up, else a new one that is starting now.

    It is let go of when the process ends: exit handlers run last in, first out, so Prefect, imported later, has sent
    its last events and logs by then. StopRun if there is nowhere to keep what belongs to it.

    With `waiting` it is one that starts scheduled runs and has a UI; a run's own ends first, and `waiting` is told so.
    """
    if url := _prefect_setting("PREFECT_API_URL"):
        return Server(url.rstrip("/"))
    try:
        server = _shared_or_started(waiting)
    except TimeoutError as error:
        raise StopRun(
            f"Prefect's server cannot be started or shared in {home()}: {error.strerror}. End that process, or set "
            "VISIONFLOW_HOME to another folder."
        ) from None
    except OSError as error:
        raise StopRun(f"Cannot write to {home()} ({error.strerror}). Set VISIONFLOW_HOME to another folder.") from None
    held.append(server)
    return server


def configured() -> bool:
    """Whether a server is named by the environment or Prefect's active profile."""
    return bool(_prefect_setting("PREFECT_API_URL"))


@atexit.register
def release_all() -> None:
    """Let go of our server, if we took it."""
    while held:
        held.pop().release()


def _shared_or_started(waiting: Callable[[str], None] | None) -> Server:
    lock = os.fdopen(open_private(home() / "server.lock"), "a")
    told = False
    while (server := _share_or_start(lock, full=waiting is not None)) is None:
        if waiting and not told:
            waiting("A run under way has a Prefect server that starts no scheduled runs: waiting for the run's end.")
        told = True
        sleep(0.5)
    return server


def _share_or_start(lock: IO[str], *, full: bool) -> Server | None:
    """A server that this process may use while it holds the lock; None while others use one that will not do."""
    lock_in_time(lock, fcntl.LOCK_SH, HELD_S)  # before the note is read: whoever stops a server holds it alone
    with os.fdopen(open_private(home() / "server.start"), "a") as starting:
        lock_in_time(starting, fcntl.LOCK_EX, HELD_S)  # runs that begin together start one server
        noted = ServerProcess.noted()
        if noted and noted.usable:
            if noted.full or not full:
                return Server(noted.url, lock=lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            fcntl.flock(lock, fcntl.LOCK_SH)  # from ours alone: nobody is in the way
        if noted and noted.alive:
            noted.stop()
            noted.wait_for_end()
        started, process = start_noted()
    return Server(started.url, process=process, lock=lock)


def _auth_string() -> str | None:
    """What our server asks for, where a person has set it."""
    return _prefect_setting("PREFECT_SERVER_API_AUTH_STRING")


def _prefect_setting(name: str) -> str | None:
    """A setting from the environment or Prefect's active profile, read without importing Prefect."""
    if value := os.environ.get(name):
        return value
    prefect_home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home / "profiles.toml")
    try:
        table = tomllib.loads(profiles.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or table.get("active")
    value = table.get("profiles", {}).get(active, {}).get(name)
    return str(value) if value else None


class ServerGone(BaseException):
    """Prefect's server does not answer. No Exception: nobody between may take it for a failure of the run."""


@contextmanager
def without_heartbeats() -> Iterator[None]:
    """Run flows without Prefect's heartbeats, for whose thread, asleep for a second at a time, the end of each waits.

    They are for automations that look after flow runs which nobody watches; the settings of a deployment's run stay.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@contextmanager
def not_waiting_for(url: str, busy: Callable[[], bool]) -> Iterator[None]:
    """Raise ServerGone in the main thread, which this is, when the server hangs and the run is not busy (any more)."""
    ended = threading.Event()
    main = threading.main_thread()

    def call_away() -> None:
        since: float | None = None
        while not ended.wait(SERVER_POLL_S):
            if busy() or healthy(url):
                since = None
                continue
            since = since or monotonic()
            if monotonic() - since >= PATIENCE_S and main.ident is not None:
                signal.pthread_kill(main.ident, signal.SIGALRM)  # again and again: what it does then may wait too

    def gone(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise ServerGone

    before = signal.signal(signal.SIGALRM, gone)
    watch = threading.Thread(target=call_away, name="visionflow-leaving", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join(PATIENCE_S)
        signal.signal(signal.SIGALRM, before)


def leave(status: int) -> None:
    """Send what Prefect still has to say; if that takes too long, end the process here with this exit status."""
    if _all_said():
        return
    release_all()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # exit handlers would wait for the server without end


def _all_said() -> bool:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    said = [worker.drain_all(timeout=SETTLE_S, at_exit=False) for worker in (EventsWorker, APILogWorker)]
    return not any(one[1] for one in said if isinstance(one, tuple))
