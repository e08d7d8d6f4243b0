"""What stands around a fleet as it would on several machines: Postgres, the wheel alone, and who counts requests."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmark.distance import farther
from tests.benchmark.services import ROOT, free_port

DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"
REQUEST = re.compile(rb"(?:^|\n)(GET|PUT|POST|HEAD|PATCH|DELETE) \S+ HTTP/1\.1\r\n")


def postgres_programs() -> Path | None:
    """Where Debian's packages put the newest version; None where it is not installed."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))


@contextmanager
def prefect_database(folder: Path) -> Iterator[None]:
    """Within, Prefect's servers have a database in a Postgres of its own, which refuses to run as root."""
    programs, port = postgres_programs(), free_port()
    if programs is None:
        raise RuntimeError("Postgres is not installed: apt-get install postgresql")
    folder.mkdir(parents=True)
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        for parent in [folder.parent, *folder.parent.parents][:-2]:  # below /tmp: it has to get through
            parent.chmod(parent.stat().st_mode | 0o011)
        user = {"user": "postgres", "group": "postgres"}
    data = folder / "data"
    common = {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "prefect", "--auth=trust", "--encoding=UTF8"], check=True, **common
    )
    address = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    command = [str(programs / "postgres"), "-D", str(data), *address.split()]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **common)
    try:
        until = time.monotonic() + 60
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        while subprocess.run(ready, check=False).returncode and time.monotonic() < until:
            time.sleep(0.2)
        os.environ[DATABASE] = f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
        yield
    finally:
        os.environ.pop(DATABASE, None)
        server.send_signal(2)  # fast: who is connected is cut off
        server.wait()


def installed_wheel(folder: Path) -> Path:
    """The wheel of this clone, unpacked by pip where nothing of the clone is; for PYTHONPATH.

    Its dependencies are those of this environment.
    """
    wheels, place = folder / "wheels", folder / "installed"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, cwd=folder)
    (wheel,) = wheels.glob("visionflow-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(place), str(wheel)], check=True, cwd=folder)
    found = subprocess.run(
        [sys.executable, "-c", "import flows; print(flows.__file__)"],
        env={**os.environ, "PYTHONPATH": str(place)},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(place)), f"workers would run {found.stdout}"
    return place


@dataclass
class Counted:
    """Requests that went to a server."""

    url: str = ""
    methods: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, data: bytes) -> None:
        """What was sent there."""
        for method in REQUEST.findall(data):
            with self._lock:
                self.methods[method.decode()] = self.methods.get(method.decode(), 0) + 1

    def an_image(self, images: int) -> str:
        """So many an image, and of which kind."""
        kinds = ", ".join(f"{count / images:.2f} {method}" for method, count in sorted(self.methods.items()))
        return f"{sum(self.methods.values()) / images:.2f} ({kinds})"


@contextmanager
def counted(url: str, latency: float = 0.0) -> Iterator[Counted]:
    """The same server at another address, where its requests are counted; so many seconds away."""
    counter = Counted()
    with farther(url, latency, counter.note) as there:
        counter.url = there
        yield counter


def kill_all(process: int) -> int:
    """Kill a process and all below it, as when the machine is switched off; how many there were."""
    below = processes(process)
    for one in below:
        with suppress(ProcessLookupError):
            os.kill(one, 9)
    return len(below)


def processes(process: int) -> list[int]:
    """The process and all below it."""
    below = [process]
    for parent in below:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                below.append(int(path.parent.name))
    return below
