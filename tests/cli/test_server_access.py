"""The Prefect server that visionflow starts: it answers programs of this machine and its own pages, and nobody else."""

import json
import os
import socket
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flows.cli.guarded import OwnPagesOnly
from flows.cli.server import Server
from flows.cli.server_process import LOOK_S, ServerProcess, healthy, lets_in, note_address
from tasks.errors import StopRun
from tests.http_servers import Handler, serving
from tests.runs import draw, end, start

if TYPE_CHECKING:
    import subprocess

ELSEWHERE = "http://evil.example"


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and body of a request with these headers; `host` and content type as given, and none by themselves."""
    host, _, path = url.removeprefix("http://").partition("/")
    given = {"host": host, **headers, "connection": "close"}
    if body is not None:
        given["content-length"] = str(len(body))
    lines = [f"{'GET' if body is None else 'POST'} /{path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items()), "", ""]
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode() + (body or b""))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2].decode(errors="replace")


FILTER = "flow_runs/filter"
STRANGERS = {
    "a page of another website posts JSON": {"origin": ELSEWHERE, "content-type": "application/json"},
    "the same as text, which needs no leave": {"origin": ELSEWHERE, "content-type": "text/plain"},
    "the same without a content type": {"origin": ELSEWHERE},
    "a file or a frame in a sandbox": {"origin": "null"},
    "another program's page on this machine": {"origin": "http://localhost:3000"},
    "our port under https": {"origin": "https://127.0.0.1"},
    "a name that was made to point here": {"host": "evil.example:4200", "origin": "http://evil.example:4200"},
    "the same, without an origin": {"host": "evil.example"},
    "a name that ends like ours": {"host": "localhost.evil.example"},
    "a user before the name": {"host": "localhost@evil.example"},
    "an image or a script of another site": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=list(STRANGERS))
def test_strangers_are_refused(prefect_server: str, headers: dict[str, str]) -> None:
    assert ask(f"{prefect_server}/{FILTER}", b"{}", **headers)[0] == 403
    status, said = ask(f"{prefect_server}/version", None, **headers)
    assert status == 403 and "own pages" in said


def test_programs_and_its_own_pages_are_answered(prefect_server: str) -> None:
    port = prefect_server.split(":")[2].split("/")[0]
    own, by_name = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    for headers in (
        {},
        {"origin": own, "sec-fetch-site": "same-origin"},
        {"origin": by_name, "host": f"localhost:{port}"},
        {"origin": by_name, "sec-fetch-site": "same-site"},  # the UI under this name asks the API under the other
        {"origin": "http://localhost:9999", "host": "localhost:9999"},  # through a tunnel
        {"origin": "http://[::1]:9999", "host": "[::1]:9999"},
    ):
        assert ask(f"{prefect_server}/{FILTER}", b"{}", **headers, **{"content-type": "application/json"})[0] == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(f"{prefect_server}/version", None, **link)[0] == 200


def test_no_page_of_elsewhere_listens_to_its_events(prefect_server: str) -> None:
    socket_url = f"{prefect_server.replace('http', 'ws', 1)}/events/out"
    with pytest.raises(InvalidStatus) as refused:
        connect(socket_url, origin=ELSEWHERE, proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
    connect(socket_url, proxy=None).close()


def test_it_listens_on_loopback_alone(prefect_server: str) -> None:
    port = int(prefect_server.split(":")[2].split("/")[0])
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in {str(one) for one in own if not str(one).startswith("127.")}:
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, port), timeout=2)


@pytest.mark.parametrize(
    ("origins", "host", "origin", "welcome"),
    [
        ({"https://flows.acme.example"}, "flows.acme.example", "https://flows.acme.example", True),
        ({"https://flows.acme.example"}, "flows.acme.example", "http://evil.example", False),
        ({"https://flows.acme.example"}, "127.0.0.1:4200", "https://flows.acme.example", True),
        ({"https://flows.acme.example"}, "evil.example", "https://flows.acme.example", False),
        ({"*"}, "anything", "http://evil.example", True),
    ],
)
def test_a_person_may_allow_other_origins(origins: set[str], host: str, origin: str, welcome: bool) -> None:
    async def app(*_: Any) -> None: ...

    guard = OwnPagesOnly(app, frozenset(origins))
    assert guard._welcome({b"host": host.encode(), b"origin": origin.encode()}) is welcome


@pytest.fixture
def kept(prefect_home: Path, home: Path) -> Iterator[dict[str, Any]]:
    """The environment of a server that stays, with its UI, and asks for an auth string; it is stopped in the end."""
    yield {
        "PREFECT_API_URL": None,
        "PREFECT_HOME": prefect_home,
        "VISIONFLOW_KEEP_SERVER": 1,
        "PREFECT_SERVER_API_AUTH_STRING": "me:sesame",
    }
    if noted := ServerProcess.noted():
        noted.stop()
        noted.wait_for_end()


def test_who_lacks_the_auth_string_of_our_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Guarded(Handler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == f"Basic {b64encode(b'me:sesame').decode()}"
            self.answer(200 if known or self.path.endswith("/health") else 401)

    with serving(Guarded) as root, Path(os.devnull).open() as lock:
        url = f"{root}/api"
        assert not lets_in(url, None) and not lets_in(url, "me:guess") and lets_in(url, "me:sesame")
        ours = Server(url, lock=lock)
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:sesame")
        assert ours.ready(print) == url
        monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING")
        with pytest.raises(StopRun, match="asks for its auth string"):
            ours.ready(print)


def test_a_server_that_is_busy_for_some_seconds_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run neither refuses to begin nor ends the server that other runs use."""

    class Busy(Handler):
        def do_GET(self) -> None:
            time.sleep(LOOK_S + 0.5)
            self.answer(200)

    monkeypatch.setattr(ServerProcess, "alive", True)
    with serving(Busy) as root:
        url = f"{root}/api"
        assert not healthy(url), "as it is seen by whoever looks again soon"
        assert Server(url).ready(print) == url
        assert ServerProcess(url, pid=os.getpid(), started=0.0).usable


@pytest.mark.all
def test_with_an_auth_string_the_run_its_server_and_the_ui_work_and_nobody_else(
    kept: dict[str, Any], simulator: Any, tmp_path: Path
) -> None:
    images = draw(tmp_path / "images", 2)
    done = end(start("run", images, "--output", tmp_path / "out", "--no-progress", **kept), 150)
    assert done.status == 0, done.err
    noted = ServerProcess.noted()
    assert noted is not None and noted.full and healthy(noted.url)
    assert not lets_in(noted.url, None) and not lets_in(noted.url, "me:guess") and lets_in(noted.url, "me:sesame")
    assert ask(f"{noted.url}/flow_runs/filter", b"{}", **{"content-type": "application/json"})[0] == 401
    with urllib.request.urlopen(f"{noted.url.removesuffix('/api')}/ui-settings") as answer:
        settings = json.load(answer)
    assert (settings["api_url"], settings["auth"]) == (noted.url, "BASIC")
    assert "sesame" not in "".join(path.read_text(errors="replace") for path in (tmp_path / "home").glob("server*"))

    without = {**kept, "PREFECT_SERVER_API_AUTH_STRING": None}
    locked_out = end(start("run", images, "--output", tmp_path / "out", "--no-progress", **without), 60)
    assert locked_out.status == 1
    assert locked_out.err.splitlines()[-1].startswith(f"visionflow: Prefect's server at {noted.url} asks for its auth")
    assert "Traceback" not in locked_out.err


@pytest.mark.all
def test_serve_waits_for_a_run_whose_server_starts_no_scheduled_runs(
    kept: dict[str, Any], simulator: Any, tmp_path: Path
) -> None:
    simulator.change(latency=0.3)
    images = draw(tmp_path / "images", 30)
    running = start(
        "run", images, "--output", tmp_path / "out", "--concurrency", 1, **{**kept, "VISIONFLOW_KEEP_SERVER": None}
    )
    serving: subprocess.Popen[str] | None = None
    try:
        while (noted := ServerProcess.noted()) is None:
            assert running.poll() is None
        assert not noted.full
        serving = start("serve", PYTHONUNBUFFERED=1, **kept)
        assert serving.stdout is not None
        assert "waiting for the run's end" in serving.stdout.readline()
        assert running.wait(timeout=120) == 0
        assert any("Ctrl-C ends it" in line for line in serving.stdout)
        served = ServerProcess.noted()
        assert served is not None and served.full and served.pid != noted.pid
    finally:
        for process in filter(None, (running, serving)):
            process.terminate()
            process.communicate(timeout=60)


def test_the_address_of_a_server_of_ones_own_is_noted_too(home: Path) -> None:
    note_address("http://127.0.0.1:4200/api")
    assert json.loads((home / "server.json").read_text()) == {"url": "http://127.0.0.1:4200/api"}
    assert ServerProcess.noted() is None, "it is not ours to stop"
