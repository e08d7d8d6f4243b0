"""Starting, changing and stopping the simulator."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anthropic import Anthropic

from tasks.errors import UsageError
from tasks.simulator import Simulator
from tasks.simulator.faults import Settings
from tests.runs import ROOT
from tests.simulator_requests import (
    MODEL,
    body_of,
    post,
)


def test_a_process_of_its_own_says_where_it_listens_and_stops_when_told(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "tasks.simulator", "--port", "0", "--no-ocr", "--ready-file", str(ready)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as stack,
    ):
        # However the test ends, the process does too: leaving the block waits for it.
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert ready.read_text() == url
        with Anthropic(api_key="key", base_url=url, max_retries=0) as client:
            assert client.messages.create(**body_of()).model == f"simulated/{MODEL}"
        port = str(urlsplit(url).port)
        second = subprocess.run(
            [*command[:3], "--port", port], cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert second.returncode == 2
    assert len(second.stderr.splitlines()) == 1
    assert f":{port}" in second.stderr


def test_what_cannot_start_says_so_to_the_caller(simulator: Simulator) -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        Simulator(port=urlsplit(simulator.url).port).start()
    with pytest.raises(ValueError, match="unknown fault"):
        Simulator(faults="explode=1").start()
    for impossible in ({"port": 99_999}, {"latency": -1.0}, {"batch_latency": float("nan")}):
        with pytest.raises(ValueError, match=f"{next(iter(impossible))} "):
            Settings(**impossible)


def test_settings_can_be_changed_while_it_runs(simulator: Simulator) -> None:
    simulator.change(latency=0.4)
    started = time.monotonic()
    post(simulator, body_of())
    simulator.change(latency=0.0)
    assert time.monotonic() - started >= 0.4
