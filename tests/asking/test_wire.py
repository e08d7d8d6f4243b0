"""The way to an endpoint: what goes over it, through which proxy, for how long, and what never comes back from it."""

import base64
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from config.endpoints import endpoint
from config.job import Job
from config.settings import is_loopback, spare_loopback_the_proxy
from tasks.asking.client import make_client
from tasks.asking.http import answer_bytes
from tasks.asking.secrets import Secrets
from tasks.errors import EndpointError
from tasks.planning.resolving import preflight
from tasks.simulator import Simulator
from tests.asking import asking, at, pages
from tests.http_servers import Handler, serving

KEY = 'sk-ant-api03-Pq/7+Zk_%QW3e"rT<y&9uI0pAsDfGhJkLzXcVbNm1234567890'
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tasks.asking.caller.BACKOFF_S", (0.01,))


@contextmanager
def hostile(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[str]:
    """A server that answers every request as it is told; its URL."""

    class Answering(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.body()
            status, headers, body = answer(self)
            self.answer(status, body, headers)

        def do_GET(self) -> None:
            self.do_POST()

    with serving(Answering) as url:
        yield url


def echoes(key: str) -> list[str]:
    """The key in the encodings in which it is likely to come back."""
    encoded = [base64.b64encode(f"{'x' * before}{key}:tail".encode()).decode() for before in range(3)]
    urlsafe = [base64.urlsafe_b64encode(f"{'x' * before}{key}".encode()).decode() for before in range(3)]
    quoted = [quote(key), quote(key, safe=""), quote_plus(key), quote(key, safe="").replace("%2F", "%2f")]
    return [key, f"Bearer {key}", json.dumps(key), escape(key), key.encode().hex(), *encoded, *urlsafe, *quoted]


def tells(text: str, key: str = KEY) -> bool:
    """Whether a text gives away twelve signs of the key that not every key begins with, plain or encoded."""
    forms = [key, *echoes(key)[2:5], *echoes(key)[11:]]
    forms += [base64.b64encode(b"x" * n + key.encode())[4 + 16 : -4].decode() for n in range(3)]
    parts = {form[at : at + 12] for form in forms for at in range(16, len(form) - 12)}
    return any(part in text for part in parts)


@pytest.mark.parametrize("echo", echoes(KEY))
@pytest.mark.parametrize("before", [0, 440, 470, 490])
def test_the_key_is_taken_out_before_anything_is_cut(echo: str, before: int) -> None:
    said = Secrets(KEY).out_of("no " * (before // 3) + f" {echo} is wrong " + "." * 600)
    assert len(said) <= 500 and not tells(said)


@pytest.mark.parametrize("length", [20, 30, 45])
def test_a_key_that_the_endpoint_itself_cut_is_taken_out_too(length: int) -> None:
    assert Secrets(KEY).out_of(f"invalid key {KEY[:length]}") == "invalid key ..."


def test_the_key_in_any_field_of_any_answer_reaches_no_table_and_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", KEY)
    said = [{"type": "text", "text": f"It says {KEY}"}]
    good: dict[str, Any] = {"content": said, "stop_reason": f"{KEY[:30]}", "model": KEY}
    good |= {"usage": {"input_tokens": 5, "output_tokens": 5}, "type": "message"}
    bad = {"type": "error", "error": {"type": KEY, "message": KEY, "details": {"error_code": KEY}}}
    head = {"request-id": KEY.replace('"', ""), "retry-after": KEY.replace('"', "")}
    answers = iter(
        [
            (200, head, json.dumps(good).encode()),
            (200, head, json.dumps({**good, "usage": {**good["usage"], "service_tier": KEY}}).encode()),
            (400, head, json.dumps(bad).encode()),
            (500, head, json.dumps(bad).encode()),
            (200, head, f"<html>{KEY}</html>".encode()),
            (200, head, json.dumps({**bad, "content": []}).encode()),
            (200, head, json.dumps({**good, KEY: 1, "content": [{"type": KEY, "text": KEY}]}).encode()),
            (307, {**head, "location": f"https://{'k' * 30}.example/{KEY.replace(chr(34), '')}?{KEY[:9]}"}, b""),
        ]
    )
    with hostile(lambda _: next(answers)) as url:
        where = replace(at(url), key_env="SECRET_KEY", auth="both")
        with asking(url, tmp_path, endpoint=where, concurrency=1) as asked:
            outcomes = asked.ask(pages(8), attempts=1)
    left = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in [*left, repr(asked.calls), repr(outcomes), repr(asked.engine.halt)]:
        assert not tells(text.replace("\\\\", "\\"))
    assert asked.halt.kind == "stopped" and "redirects to" in asked.halt.message
    assert len(asked.calls) == 8


@pytest.mark.parametrize(
    "error",
    [
        [1, 2],
        5,
        None,
        "text",
        {"error": "text"},
        {"error": ["a"]},
        {"error": {"type": 5, "message": {"a": 1}, "details": 7}},
        {"error": {"type": ["x"], "message": None, "details": {"error_code": 5, "paths": 3}}},
        {"error": {"details": {"error_code": "image_dimensions_too_large", "max_side_length_pixels": "x", "paths": 1}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_body_may_be_anything(tmp_path: Path, error: Any, status: int) -> None:
    answers = iter([(status, dict[str, str](), json.dumps(error).encode())])
    good = {"content": [{"type": "text", "text": "A"}], "usage": {"input_tokens": 5, "output_tokens": 5}}
    with hostile(lambda _: next(answers, (200, {}, json.dumps(good).encode()))) as url, asking(url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=3)
        assert asked.engine.halt is None
    assert outcome.status in ({"rejected", "unreadable"} if status == 400 else {"ok"})
    assert asked.calls[0]["http_status"] == status and asked.calls[0]["paid"] == "no"


@pytest.mark.parametrize("status", [201, 204, 206, 226, 299, 305, 399, 418, 444, 451, 499, 511, 599])
def test_any_status_is_a_row_or_an_end(tmp_path: Path, status: int) -> None:
    with hostile(lambda _: (status, {}, b"")) as url, asking(url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=2)
    assert outcome.status in ("rejected", "unavailable", "unasked") and outcome.error
    assert len(asked.calls) >= 1


def test_a_server_that_does_not_read_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    def stalls(handler: BaseHTTPRequestHandler) -> Answer:
        time.sleep(3)
        return 200, {}, b"{}"

    began = time.monotonic()
    with hostile(stalls) as url, asking(url, tmp_path, timeout=0.5) as asked:
        (outcome,) = asked.ask(pages(1), attempts=2)
    assert outcome.error == "No answer within the time limit." and time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("gate.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_what_is_this_machine(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours


def test_plain_http_to_another_machine_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    gateway = endpoint("http://192.0.2.1:8080")
    with pytest.raises(EndpointError, match="plain http to another machine") as caught:
        preflight(gateway, Job())
    assert "\n" not in str(caught.value) and not tells(str(caught.value))
    make_client(replace(gateway, insecure=True), concurrency=1, timeout=1)
    make_client(replace(gateway, key_env=""), concurrency=1, timeout=1)
    make_client(endpoint("https://192.0.2.1:8080"), concurrency=1, timeout=1)
    monkeypatch.setenv("VISIONFLOW_ALLOW_HTTP", "0")
    with pytest.raises(EndpointError):
        make_client(gateway, concurrency=1, timeout=1)
    monkeypatch.setenv("VISIONFLOW_ALLOW_HTTP", "1")
    make_client(gateway, concurrency=1, timeout=1)


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    with Simulator() as simulator, asking(simulator.url, tmp_path) as asked:
        (outcome,) = asked.ask(pages(1), attempts=1)
    assert outcome.status == "ok"


def test_the_commands_spare_loopback_every_proxy_and_keep_what_was_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    spare_loopback_the_proxy()
    assert "NO_PROXY" not in os.environ, "nothing is set where there is no proxy"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "intern.example")
    spare_loopback_the_proxy()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intern.example,localhost,127.0.0.1,::1"
    monkeypatch.setenv("no_proxy", "*")
    spare_loopback_the_proxy()
    assert os.environ["NO_PROXY"] == "*"


def test_a_whole_host_that_redirects_is_known_before_the_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    moved = "https://other.example"
    with (
        hostile(lambda handler: (308, {"location": f"{moved}{handler.path}"}, b"")) as url,
        pytest.raises(EndpointError, match=f"redirects to {moved}/v1/models/claude-haiku-5-5 \\(308\\)"),
    ):
        preflight(endpoint(url), Job())
    with hostile(lambda _: (302, {"location": "/login"}, b"")) as url:
        assert preflight(endpoint(url), Job()).model_known is False, "a website for browsers: the first call decides"


def test_an_answer_has_a_megabyte_and_256_bytes_a_token() -> None:
    assert answer_bytes(0) == 1_000_000 and answer_bytes(8192) == 3_097_152 and answer_bytes(10**9) == 32_000_000
