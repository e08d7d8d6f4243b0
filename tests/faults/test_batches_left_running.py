"""Runs by batch that are left: by Ctrl-C, by a kill, for another machine. What was submitted is paid for once."""

import json
import re
import signal
import subprocess
import time
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from flows import read_calls
from tasks.simulator import Simulator
from tests.runs import draw, end, rows, start
from tests.s3 import S3Server

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.all]


def command(tmp_path: Path, output: object, *more: object) -> list[object]:
    images = tmp_path / "images"
    return ["run", images, "--output", output, "--json", "--name", "job", "--mode", "batch", *more]


def until_submitted(simulator: Simulator, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 180
    while not simulator.ledger(entries=False).batches:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_leaves_batches_running_and_says_what_they_may_cost(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=15.0)
    draw(tmp_path / "images", 9)
    process = start(*command(tmp_path, tmp_path / "out"))
    until_submitted(simulator, process)
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    left = end(process)
    assert left.status == 130 and time.monotonic() - began < 10, "nobody waits for the batch"
    assert "1 Message Batch runs on at the endpoint, with 9 requests that may cost $0.0" in left.err
    assert "The same command collects it; to cancel it, POST /v1/messages/batches/ID/cancel" in left.summary["message"]
    assert left.summary["statuses"] == {"unasked": 9}
    (line,) = set(re.findall(r"use the Console: (curl .*/cancel')", left.err))  # as a person copies it
    reply = subprocess.run(["bash", "-c", f"{line} -s"], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(reply.stdout)["processing_status"] in ("canceling", "ended")
    again = end(start(*command(tmp_path, tmp_path / "out")))
    assert (again.status, again.summary["ok"], again.summary["batches"]) == (0, 9, 2)
    assert simulator.ledger().billed == 9, "what it had answered was collected, and the rest asked again"
    assert Decimal(str(again.summary["cost_usd"])) == simulator.ledger().cost_usd


def test_another_machine_collects_what_a_dead_one_submitted(
    simulator: Simulator, s3_server: S3Server, tmp_path: Path
) -> None:
    simulator.change(batch_latency=3.0)
    draw(tmp_path / "images", 6)
    output = f"s3://{s3_server.bucket}/batches"
    here = start(*command(tmp_path, output), VISIONFLOW_HOME=tmp_path / "here")
    until_submitted(simulator, here)
    here.kill()
    end(here)
    there = end(
        start(*command(tmp_path, output), VISIONFLOW_HOME=tmp_path / "there", VISIONFLOW_BATCH_ABSENCE=2), seconds=180
    )
    assert (there.status, there.summary["ok"]) == (0, 6), there.err
    ledger = simulator.ledger()
    assert (ledger.batches, ledger.batch_requests, ledger.requests) == (1, 6, 0)
    calls = read_calls(output)
    assert sum(calls["cost_usd"]) == ledger.cost_usd and len(calls) == 6


def test_without_waiting_the_command_ends_with_five_until_all_is_there(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=8.0)
    draw(tmp_path / "images", 5)
    first = end(start(*command(tmp_path, tmp_path / "out", "--no-wait")))
    assert (first.status, first.summary["status"]) == (5, "waiting")
    assert "Waiting" in first.err and "The same command collects it" in first.err
    last = first
    while last.status == 5:
        time.sleep(1)
        last = end(start(*command(tmp_path, tmp_path / "out", "--no-wait")))
    assert (last.status, last.summary["ok"]) == (0, 5)
    assert simulator.ledger().batch_requests == 5
    assert set(rows(last.summary, "calls")["tier"]) == {"batch"}
    runs = pd.read_parquet(tmp_path / "out" / "runs").sort_values("run_id")
    assert runs["status"].iloc[0] == "waiting" and runs["status"].iloc[-1] == "completed"
