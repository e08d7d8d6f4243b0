"""The simulator and Prefect's server, each a process of its own, and what they can tell afterwards."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cli.server import CLIENT_ENVIRONMENT, Server
from flows.cli.server_process import start_server

ROOT = Path(__file__).parents[2]
START_S = 30.0
SETTLE_S = 120.0
QUIET_S = 1.0
QUIET_SHARE = 0.15  # of a core: its own loops take less


@dataclass(frozen=True)
class Simulator:
    """A simulator in another process."""

    url: str
    pid: int

    def ledger(self, *, entries: bool = False) -> dict[str, Any]:
        """What it was asked and billed since the last reset."""
        with urllib.request.urlopen(f"{self.url}/simulator/ledger?entries={int(entries)}", timeout=60) as answer:
            ledger: dict[str, Any] = json.load(answer)
        return ledger

    def reset(self, *, latency: float) -> None:
        """An empty ledger, and so many seconds to an answer."""
        self._post("reset", {})
        self._post("faults", {"latency": latency})

    def _post(self, what: str, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/simulator/{what}", data=data, timeout=60) as answer:
            answer.read()


@contextmanager
def simulator(folder: Path, *, latency: float = 0.0, batch_latency: float = 0.0) -> Iterator[Simulator]:
    """A simulator that reads no text and listens on a free port."""
    ready = folder / "simulator.url"
    command = [sys.executable, "-m", "tasks.simulator", "--port", "0", "--no-ocr", "--latency", str(latency)]
    command += ["--batch-latency", str(batch_latency)]
    process = subprocess.Popen([*command, "--ready-file", str(ready)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the simulator does not start: try `python -m tasks.simulator`")
            time.sleep(0.02)
        yield Simulator(ready.read_text(encoding="utf-8"), process.pid)
    finally:
        process.terminate()
        process.wait()


@dataclass
class PrefectServer:
    """A Prefect server of the benchmark's own, on a home that is thrown away."""

    url: str
    home: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()

    def away(self, seconds: float) -> None:
        """Stop it, and start it again after so many seconds."""
        self.end()
        time.sleep(seconds)
        self.process = start_server(self.port, self.home.parent / "prefect-server.log")
        Server(self.url, process=self.process).ready(lambda _: None)

    @property
    def database_bytes(self) -> int:
        """Size of its database, what is still in the write-ahead log included."""
        with closing(sqlite3.connect(self.home / "prefect.db", timeout=60)) as database:
            (pages,), (size,) = (database.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
        return int(pages * size)

    def settle(self) -> None:
        """Wait until it has written down what it was told: it goes on after a run has ended."""
        until, used = time.monotonic() + SETTLE_S, cpu_seconds(self.pid)
        while used is not None and time.monotonic() < until:
            time.sleep(QUIET_S)
            before, used = used, cpu_seconds(self.pid)
            if used is None or used - before < QUIET_SHARE * QUIET_S:
                break

    def copy_home(self, folder: Path) -> Path:
        """A migrated home for a run that starts a server itself."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with sqlite3.connect(self.home / "prefect.db") as ours, sqlite3.connect(folder / "prefect.db") as copy:
            ours.backup(copy)
        return folder


@contextmanager
def prefect_server(folder: Path) -> Iterator[PrefectServer]:
    """A server on a new home: its database is migrated first, which takes half a minute."""
    home = folder / "prefect"
    home.mkdir(parents=True)
    os.environ.update(CLIENT_ENVIRONMENT, PREFECT_HOME=str(home))
    port = free_port()
    url, process = f"http://127.0.0.1:{port}/api", start_server(port, folder / "prefect-server.log")
    server = PrefectServer(url, home, port, process)
    try:
        server.url = Server(url, process=process).ready(lambda _: None)
        yield server
    finally:
        server.end()


def cpu_seconds(pid: int) -> float | None:
    """CPU that a process has used so far; None where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
