"""`visionflow serve` shows the reports of the outputs that it ran, to this machine's user, and nothing else."""

import http.client
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.cli.report_server import ReportServer
from tasks.reporting.served_reports import VARIABLE, report_place
from tests.runs import until

REPORT = "reports/job=caf\u00e9 1/run=20261124T210000Z-abcd/report.html"


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportServer]:
    assert home
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, "")  # so that it is put back
    running = ReportServer()
    running.begin()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    output = tmp_path / "out"
    (output / REPORT).parent.mkdir(parents=True)
    (output / REPORT).write_text("<p>the report</p>", encoding="utf-8")
    return output


def get(url: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    connection.request(method, parts.path, headers={"Host": host or parts.netloc})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), body


def test_a_browser_that_hangs_up_leaves_nothing_in_the_terminal(
    server: ReportServer, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    others = set(threading.enumerate())
    (output / REPORT).write_bytes(b"x" * 30_000_000)
    parts = urlsplit(report_place(str(output / REPORT)))
    with socket.create_connection(("127.0.0.1", server.port)) as browser:
        browser.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        assert browser.recv(1000).startswith(b"HTTP/1.0 200")
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it resets as it closes
    with socket.create_connection(("127.0.0.1", server.port)) as browser:
        browser.sendall(b"GET /half a req")
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert get(report_place(str(output / REPORT)), "HEAD")[0] == 200  # both were taken before
    until(lambda: not [one for one in {*threading.enumerate()} - others if "process_request_thread" in one.name])
    assert capfd.readouterr() == ("", "")


def test_the_report_of_an_output_that_was_run(server: ReportServer, output: Path) -> None:
    url = report_place(str(output / REPORT))
    assert url.startswith(f"http://127.0.0.1:{server.port}/")
    status, headers, body = get(url)
    assert (status, body) == (200, b"<p>the report</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers
    assert get(url, "HEAD")[0::2] == (200, b"")
    assert get(url, "POST")[0] == 501


def test_nothing_else_is_served(server: ReportServer, output: Path, tmp_path: Path) -> None:
    url = report_place(str(output / REPORT))
    folder = url.removesuffix("/report.html")
    (output / "reports/job=x").mkdir()
    (output / "secret.html").write_text("secret")
    (output / "reports/secret.html").write_text("secret")
    (tmp_path / "elsewhere/run=r").mkdir(parents=True)
    (tmp_path / "elsewhere/run=r/report.html").write_text("secret")
    (output / "reports/job=link").symlink_to(tmp_path / "elsewhere")
    (output / "reports/job=x/run=file").mkdir()
    (output / "reports/job=x/run=file/report.html").symlink_to(output / "secret.html")
    (output / "reports/job=x/run=folder/report.html").mkdir(parents=True)
    (output / "reports/job=x/run=pipe").mkdir()
    os.mkfifo(output / "reports/job=x/run=pipe/report.html")
    base = url.partition("/reports/")[0]
    server_url, _, digest = base.rpartition("/")
    wrong = [
        server.url,
        f"{server.url}/",
        base,
        folder,
        f"{base}/secret.html",
        f"{base}/reports/secret.html",
        f"{folder}/../../../secret.html",
        f"{base}/reports/job=x/run=..%2f..%2f../report.html",
        f"{base}/reports/job=../run=../report.html",
        f"{base}/reports/job=link/run=r/report.html",
        f"{base}/reports/job=x/run=file/report.html",
        f"{base}/reports/job=x/run=folder/report.html",
        f"{base}/reports/job=x/run=pipe/report.html",
        f"{base}/reports/job=x/run=none/report.html",
        f"{url}%00",
        url.replace(digest, "0" * 32),
        url.replace(digest, "..%2f" * 3),
        url.replace(server_url.rpartition("/")[2], "guessed"),
        url.replace(f"/{server.secret}", ""),
    ]
    assert [(one, get(one)[0]) for one in wrong] == [(one, 404) for one in wrong]
    assert get(url, host="evil.example")[0] == 404, "a name that an attacker turned to this machine"
    assert get(url)[0] == 200


def test_an_output_that_became_a_link_is_not_followed(server: ReportServer, output: Path, tmp_path: Path) -> None:
    url = report_place(str(output / REPORT))
    output.rename(tmp_path / "moved")
    output.symlink_to(tmp_path / "moved")
    assert server and get(url)[0] == 404


def test_without_serve_and_on_s3_it_is_the_place_itself(server: ReportServer, output: Path) -> None:
    assert report_place("s3://acme/facts/reports/report.html") == "s3://acme/facts/reports/report.html"
    os.environ[VARIABLE] = ""
    assert server and report_place(str(output / REPORT)) == str(output / REPORT)


def test_links_outlive_the_server(server: ReportServer, output: Path) -> None:
    url = report_place(str(output / REPORT))
    second = ReportServer()  # the port is taken: it gets another
    assert (second.port != server.port, second.secret) == (True, server.secret)
    second.server_close()
    third = ReportServer()
    third.server_close()
    assert third.port == second.port, "that of last time"
    assert get(url)[0] == 200
