"""Prefect's server: the one that PREFECT_API_URL or the profile names, or one of our own on this machine.

Importing Prefect and starting its server are what a person waits for, so ours is started as a process of its own before
anything else is imported. Runs at the same time share it; the last one stops it, unless VISIONFLOW_KEEP_SERVER=1.
"""

import atexit
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from time import monotonic, sleep, time
from typing import IO, Any

from config.settings import home, keep_server
from tasks.errors import StopRun

# Its defaults record one event at a time (55 ms of CPU a task run); in batches it is a fifth.
SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
}
START_TIMEOUT_S = 180.0
NEW_HOME_S = 12.0  # a home that is migrated starts sooner than this


class Server:
    """A Prefect API that is there, or on its way. `ready` waits for it; `release` lets go of it."""

    def __init__(
        self, url: str, *, process: subprocess.Popen[bytes] | None = None, lock: IO[str] | None = None
    ) -> None:
        self.url = url
        self._process = process
        self._lock = lock
        self._started = monotonic()

    @property
    def ours(self) -> bool:
        """Whether it was started by visionflow."""
        return self._lock is not None or self._process is not None

    def ready(self, say: Callable[[str], None]) -> str:
        """Wait until it answers and return its URL; StopRun says why it does not. `say` explains a long wait."""
        explained = False
        while not healthy(self.url):
            waited = monotonic() - self._started
            if self._process is not None and self._process.poll() is not None:
                raise StopRun(f"Prefect's server ended while starting. Its log: {log_path()}")
            if not self.ours or waited > START_TIMEOUT_S:
                raise StopRun(f"Prefect's server at {self.url} does not answer. Start it, or unset PREFECT_API_URL.")
            if waited > NEW_HOME_S and not explained:
                say("Prefect sets up its database in a new home, once: about half a minute more ...")
                explained = True
            sleep(0.05)
        return self.url

    def release(self) -> None:
        """Stop our server if nobody else uses it and it is not to be kept."""
        if self._lock is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another run uses it
        if not keep_server():
            _stop_recorded()
        self._lock.close()


def find_or_start() -> Server:
    """The configured server, else ours if it is up, else a new one that is starting now.

    It is let go of when the process ends: exit handlers run last in, first out, so Prefect, imported later, has sent
    its last events and logs by then.
    """
    server = _find_or_start()
    atexit.register(server.release)
    return server


def _find_or_start() -> Server:
    if url := _configured_url():
        return Server(url)
    home().mkdir(parents=True, exist_ok=True)
    lock = (home() / "server.lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_SH)
    with (home() / "server.start").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)  # runs that begin together start one server
        recorded = _recorded()
        if recorded and (healthy(recorded["url"]) or _is_starting(recorded)):
            return Server(recorded["url"], lock=lock)
        port = _free_port()
        url = f"http://127.0.0.1:{port}/api"
        process = start_server(port, log_path())
        _record_path().write_text(json.dumps({"url": url, "pid": process.pid, "started": time()}))
    return Server(url, process=process, lock=lock)


def _is_starting(recorded: dict[str, Any]) -> bool:
    """Whether another run has just started it."""
    if time() - recorded["started"] > START_TIMEOUT_S:
        return False
    try:
        os.kill(recorded["pid"], 0)
    except OSError:
        return False
    return True


def drop_unsent_events() -> None:
    """Forget what Prefect still has to tell a server that is gone: it would try for seconds an event, at exit."""
    from prefect._internal.concurrency.services import _active_services

    for service in list(_active_services):
        with suppress(Empty):
            while True:
                service._queue.get_nowait()


def healthy(url: str) -> bool:
    """Whether a Prefect API answers there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310  # the user's own setting
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def log_path() -> Path:
    """What our server says goes here."""
    return home() / "server.log"


def start_server(port: int, log_file: Path) -> subprocess.Popen[bytes]:
    """Start a Prefect server of our own on 127.0.0.1; it answers some seconds later."""
    spec = find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    api = f"http://127.0.0.1:{port}/api"
    environment = {**SERVER_ENVIRONMENT, **os.environ, "PREFECT_SERVER_UI_API_URL": api, "PREFECT__SERVER_FINAL": "1"}
    if not keep_server():
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(spec.origin).parent), "--factory"]
    command += ["prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "error", "--lifespan", "on"]
    with log_file.open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _stop_recorded() -> None:
    recorded = _recorded()
    if recorded is None:
        return
    if healthy(recorded["url"]):  # else its number may be another process's by now
        with suppress(ProcessLookupError):
            os.kill(recorded["pid"], signal.SIGTERM)
    _record_path().unlink(missing_ok=True)


def _recorded() -> dict[str, Any] | None:
    try:
        recorded = json.loads(_record_path().read_text())
    except (OSError, ValueError):
        return None
    return recorded if isinstance(recorded, dict) else None


def _record_path() -> Path:
    return home() / "server.json"


def _configured_url() -> str | None:
    """PREFECT_API_URL from the environment or Prefect's active profile, read without importing Prefect."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url.rstrip("/")
    prefect_home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home / "profiles.toml")
    try:
        table = tomllib.loads(profiles.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or table.get("active")
    url = table.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url).rstrip("/") if url else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
