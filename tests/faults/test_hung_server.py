"""Prefect's server hangs: it answers nothing, and no connection to it fails. That costs a run some seconds, no more."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flows.cli.server import Server
from flows.cli.server_process import start_server
from tasks.simulator import Simulator
from tests.runs import draw, end, rows, run_table, start

if TYPE_CHECKING:
    import subprocess


@pytest.fixture
def hanging(prefect_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """A server of the test's own, which PREFECT_API_URL names; it can be stopped."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    process = start_server(port, tmp_path / "server.log")
    try:
        Server(os.environ["PREFECT_API_URL"], process=process).ready(lambda _: None)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.all
@pytest.mark.parametrize("fate", [signal.SIGSTOP, signal.SIGKILL])
def test_at_the_end_of_a_run(
    hanging: "subprocess.Popen[bytes]", simulator: Simulator, tmp_path: Path, fate: signal.Signals
) -> None:
    simulator.change(latency=0.3)
    images, out = draw(tmp_path / "images", 20), tmp_path / "out"
    run = start("run", images, "--output", out, "--name", "job", "--concurrency", 2, "--json")
    while simulator.ledger(entries=False).billed < 6:
        assert run.poll() is None, end(run)
        time.sleep(0.02)
    hanging.send_signal(fate)
    while not (out / "runs").exists():
        time.sleep(0.1)
    written = time.monotonic()
    ended = end(run, 90)

    assert time.monotonic() - written < 40, "20 s, and as much for a machine that is busy"
    assert (ended.status, ended.summary["ok"]) == (0, 20)
    lines = [line for line in ended.err.splitlines() if "Prefect's server is gone" in line]
    assert lines == [
        "          Prefect's server is gone: its UI lacks the end of this run. Results and bill are complete."
    ]
    assert "Traceback" not in ended.err and "logging" not in ended.err
    assert len(rows(ended.summary)) == len(rows(ended.summary, "calls")) == 20
    assert run_table(out)["status"].tolist() == ["completed"]
    assert Path(ended.summary["report"]).exists()
    assert Path(ended.summary["costs"]).exists()


def test_before_a_run(hanging: "subprocess.Popen[bytes]", simulator: Simulator, tmp_path: Path) -> None:
    hanging.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    ended = end(start("run", draw(tmp_path / "images", 1), "--output", tmp_path / "out"), 90)
    assert time.monotonic() - began < 60
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("visionflow: Prefect's server at http://127.0.0.1:")
    assert "does not answer. Start it, or unset PREFECT_API_URL." in line
    assert simulator.ledger().requests == 0
