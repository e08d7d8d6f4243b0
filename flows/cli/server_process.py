"""The Prefect server that visionflow starts: a process of its own, and the note by which other runs find it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, sleep, time

from config.settings import home, keep_server
from tasks.storage.files import open_private, write_private

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
APPLICATION = "flows.cli.guarded:create_app"
ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180.0
END_TIMEOUT_S = 60.0
LOOK_S, LAST_LOOK_S = 2.0, 10.0  # for an answer, of which a busy server takes its time: where others follow, and else


@dataclass(frozen=True)
class ServerProcess:
    """A server as its starter noted it down; `ending` once it was told to stop before it was up.

    Only a `full` one has a UI, and starts scheduled runs: the others are a run's own, and gone with it.
    """

    url: str
    pid: int
    started: float
    ending: bool = False
    full: bool = False

    @classmethod
    def noted(cls) -> "ServerProcess | None":
        """The server that a run started and nobody stopped since, if there is one."""
        try:
            return cls(**json.loads(_note_path().read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def usable(self) -> bool:
        """Whether it answers, or is still starting."""
        if self.ending or not self.alive:
            return False
        return time() - self.started < START_TIMEOUT_S or healthy(self.url, LAST_LOOK_S)

    @property
    def alive(self) -> bool:
        """Whether the process is there; its number may be another's by now, so the command line is looked at."""
        port = self.url.removesuffix("/api").rpartition(":")[2]
        words = _command_line(self.pid).split()
        return APPLICATION in words and port in words

    def note(self) -> None:
        """Let other runs find it."""
        write_private(_note_path(), json.dumps(asdict(self)).encode())

    def stop(self) -> None:
        """Tell it to end. One that is not up yet migrates its database to the end first: the note stays until then."""
        up = healthy(self.url)
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        if up or not self.alive:
            _note_path().unlink(missing_ok=True)
        else:
            replace(self, ending=True).note()

    def wait_for_end(self) -> None:
        """Until it has ended: two servers must not migrate one database. After a minute it hangs, and is killed."""
        patience = monotonic() + END_TIMEOUT_S
        while self.alive and monotonic() < patience:
            sleep(0.1)
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def start_noted() -> tuple[ServerProcess, "subprocess.Popen[bytes]"]:
    """Start a server on a free port, and note it down."""
    port = _free_port()
    process = start_server(port, log_path())
    server = ServerProcess(f"http://127.0.0.1:{port}/api", process.pid, time(), full=keep_server())
    server.note()
    return server, process


def start_server(port: int, log_file: Path) -> "subprocess.Popen[bytes]":
    """Start a Prefect server of our own on 127.0.0.1; it answers some seconds later."""
    own = f"http://127.0.0.1:{port}"
    environment = {
        **SERVER_ENVIRONMENT,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{own},http://localhost:{port}",
        **os.environ,
        "PREFECT_SERVER_UI_API_URL": f"{own}/api",
        "PREFECT__SERVER_FINAL": "1",
    }
    if not keep_server():
        environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT), "--factory", APPLICATION]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    with os.fdopen(open_private(log_file), "ab") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
        )


def note_address(url: str) -> None:
    """Say where the API is that `visionflow serve` uses, when it is none that we started."""
    if (noted := ServerProcess.noted()) and noted.alive:
        return  # that note is how it is found and stopped
    write_private(_note_path(), json.dumps({"url": url}).encode())


def lets_in(url: str, auth_string: str | None) -> bool:
    """Whether the API takes this auth string, or asks for none."""
    request = urllib.request.Request(f"{url}/version")  # noqa: S310  # the user's own setting
    if auth_string:
        request.add_header("Authorization", f"Basic {b64encode(auth_string.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code != 401
    except (urllib.error.URLError, OSError, ValueError):
        return True  # it is not that


def healthy(url: str, seconds: float = LOOK_S) -> bool:
    """Whether a Prefect API answers there, in so many seconds."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds) as answer:  # noqa: S310  # the user's own setting
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def log_path() -> Path:
    """What our server says goes here."""
    return home() / "server.log"


def _command_line(pid: int) -> str:
    """The command of a process; empty if there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    if Path("/proc/self").exists():
        return ""
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return shown.stdout


def _note_path() -> Path:
    return home() / "server.json"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
