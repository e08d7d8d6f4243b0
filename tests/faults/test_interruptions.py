"""Runs that end early: killed, interrupted, without room, without S3, without Prefect. What was received stays."""

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.cli.server_process import ServerProcess, healthy
from tasks.simulator import Simulator
from tests.flow_runs import flow_runs_of
from tests.runs import Ended, draw, end, heard, hold, rows, start
from tests.s3 import s3_machine

IMAGES = 40


@pytest.fixture
def command(simulator: Simulator, tmp_path: Path) -> list[object]:
    """A run of 40 images, four calls in flight, a tenth of a second each."""
    simulator.change(latency=0.1)
    images = draw(tmp_path / "images", IMAGES)
    return ["run", images, "--output", tmp_path / "out", "--concurrency", "4", "--json", "--name", "job"]


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait for something to happen while the command goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, end(process)
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"waited in vain: {end(process)}")
        time.sleep(0.01)


def answered(simulator: Simulator, count: int) -> Callable[[], bool]:
    return lambda: simulator.ledger(entries=False).billed >= count


def asked_twice(simulator: Simulator) -> set[str]:
    """Images (by SHA-256) that were billed more than once."""
    counts = Counter(entry.image for entry in simulator.ledger().entries if entry.billed)
    return {str(image) for image, count in counts.items() if count > 1}


@pytest.mark.usefixtures("prefect_server")
def test_after_a_kill_only_calls_in_flight_are_repeated(
    simulator: Simulator, command: list[object], tmp_path: Path
) -> None:
    process = start(*command)
    until(answered(simulator, 12), process)
    hold(simulator, 4)
    process.kill()
    killed = time.time()
    end(process)
    simulator.change(latency=0)
    before = simulator.ledger()
    again = end(start(*command))

    assert again.status == 0, again.err
    summary = again.summary
    assert (summary["ok"], summary["images"]) == (IMAGES, IMAGES)
    assert sorted(rows(summary)["name"]) == [f"p{number:03}.jpg" for number in range(IMAGES)]
    assert summary["cached"] >= before.billed - 8

    calls = pd.read_parquet(tmp_path / "out" / "calls")
    maybe = calls[calls["paid"] == "maybe"]
    assert 4 <= len(maybe) == summary["calls_maybe_paid"] <= 8, "four in flight, and answers not kept yet"
    assert set(maybe["run_id"]) == {summary["run_id"]}
    assert (maybe["started_at"].map(pd.Timestamp.timestamp) < killed).all()
    assert maybe["error"].str.contains("In flight when an earlier run of this job ended").all()
    assert asked_twice(simulator) <= set(maybe["sent_sha256"])

    # Every call of both runs is in the ledger, and those that were answered are billed to the last digit.
    answers = calls[calls["outcome"] == "answered"]
    ledger = simulator.ledger()
    assert len(answers["request_id"].unique()) == len(answers)
    unseen = [entry for entry in ledger.entries if entry.billed and entry.request_id not in set(answers["request_id"])]
    assert len(unseen) <= len(maybe)
    assert Decimal(answers["cost_usd"].sum()) + sum((entry.cost_usd for entry in unseen), Decimal(0)) == ledger.cost_usd


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.all), signal.SIGTERM])
def test_an_interrupted_run_finishes_what_is_in_flight(
    number: signal.Signals, simulator: Simulator, command: list[object], tmp_path: Path
) -> None:
    process = start(*command)
    until(answered(simulator, 8), process)
    hold(simulator, 4)
    process.send_signal(number)
    said = heard(process, "Finishing 4 calls in flight of run ")
    simulator.change(latency=0)
    simulator.let_go()
    ended = end(process)

    assert ended.status == 130
    assert "Traceback" not in said + ended.err
    assert f"Interrupted ({number.name}). The same command goes on where this run stopped." in ended.err
    summary = ended.summary
    ledger = simulator.ledger()
    assert summary["status"] == "interrupted"
    assert summary["ok"] == summary["calls"] == ledger.billed == ledger.requests < IMAGES
    assert summary["statuses"] == {"ok": summary["ok"], "unasked": IMAGES - summary["ok"]}
    assert summary["calls_maybe_paid"] == 0
    assert rows(summary, "calls")["cost_usd"].sum() == ledger.cost_usd
    state = flow_runs_of(tmp_path / "out")[0].state
    assert state is not None and (state.type, state.name) == ("CANCELLED", "Interrupted")

    again = end(start(*command))
    assert (again.status, again.summary["ok"], again.summary["cached"]) == (0, IMAGES, summary["ok"])
    assert simulator.ledger().requests == IMAGES


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.all)])
def test_a_run_that_is_interrupted_twice_ends_at_once(
    number: signal.Signals, simulator: Simulator, command: list[object]
) -> None:
    simulator.change(latency=600)
    process = start(*command)
    until(lambda: simulator.ledger(entries=False).in_flight == 4, process)
    process.send_signal(number)
    said = heard(process, "Ctrl-C again ends at once.")
    assert "Finishing 4 calls in flight of run " in said
    process.send_signal(number)
    ended = end(process)
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "visionflow: Interrupted.")
    assert "Traceback" not in said + ended.err

    simulator.change(latency=0)
    again = end(start(*command))
    assert (again.status, again.summary["ok"], again.summary["calls_maybe_paid"]) == (0, IMAGES, 4)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.all), signal.SIGTERM])
def test_interrupted_while_it_makes_its_plan(number: signal.Signals, home: Path, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start("run", images, "--output", tmp_path / "out", "--endpoint", endpoint, ANTHROPIC_API_KEY="key")
        silent.settimeout(60)
        connection, _ = silent.accept()  # it asks for the model, and nobody answers
        with connection:
            process.send_signal(number)
            ended = end(process)
    assert (ended.status, ended.err) == (130, "visionflow: Interrupted.\n")


@pytest.mark.usefixtures("prefect_server")
def test_results_that_cannot_be_written_any_more(simulator: Simulator, command: list[object], tmp_path: Path) -> None:
    process = start(*command)
    until(answered(simulator, 8), process)
    hold(simulator, 4)
    (tmp_path / "out" / "results").write_text("a file in the way, as root or not")
    simulator.change(latency=0)
    simulator.let_go()
    ended = end(process)

    assert ended.status == 1
    (line,) = ended.err.splitlines()[-1:]
    assert line.startswith(f"visionflow: Cannot write {tmp_path}/out/results/job=job/")
    assert "Choose another folder." in line
    assert "Traceback" not in ended.err
    received = simulator.ledger().requests
    (tmp_path / "out" / "results").unlink()
    again = end(start(*command))
    assert (again.status, again.summary["ok"]) == (0, IMAGES)
    assert received + again.summary["calls"] == IMAGES, "every answer that was received was kept"
    calls = pd.read_parquet(tmp_path / "out" / "calls")
    assert calls["cost_usd"].sum() == simulator.ledger().cost_usd, "the calls of the run that failed are there too"


@pytest.mark.usefixtures("prefect_server")
def test_a_disk_without_room_for_answers(simulator: Simulator, command: list[object], tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: it binds root too. The journal meets it first."""
    process = start(*command)
    until(answered(simulator, 8), process)
    hold(simulator, 4)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (9_000, 9_000))
    simulator.change(latency=0)
    simulator.let_go()
    ended = end(process)

    assert ended.status == 1
    assert "Traceback" not in ended.err
    line = ended.err.splitlines()[-1]
    assert "File too large" in line
    received = simulator.ledger()
    assert received.requests < IMAGES, "nothing is asked when it cannot be written down"
    again = end(start(*command))
    assert (again.status, again.summary["ok"]) == (0, IMAGES)
    assert not asked_twice(simulator)
    assert simulator.ledger().requests == IMAGES


@pytest.mark.usefixtures("prefect_server")
def test_s3_that_goes_away_and_comes_back(simulator: Simulator, command: list[object], tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    with s3_machine(tmp_path / "s3") as machine:
        output = f"s3://{machine.server.bucket}/out"
        arguments = [output if part == tmp_path / "out" else part for part in command]
        process = start(*arguments, **machine.server.env)
        until(answered(simulator, 8), process)
        hold(simulator, 4)
        machine.stop()
        simulator.change(latency=0)
        simulator.let_go()
        time.sleep(3)
        machine.start()
        ended = end(process)
        again = end(start(*arguments, **machine.server.env))
    assert ended.status == 0, ended.err
    assert (ended.summary["ok"], ended.summary["calls"]) == (IMAGES, IMAGES)
    assert (again.summary["ok"], again.summary["calls"]) == (IMAGES, 0)
    assert simulator.ledger().requests == IMAGES


@pytest.mark.all
def test_our_prefect_server_outlives_a_kill_and_the_run_outlives_the_server(
    simulator: Simulator, command: list[object], home: Path, prefect_home: Path
) -> None:
    environment = {"PREFECT_API_URL": None, "PREFECT_HOME": prefect_home, "PREFECT_CLIENT_MAX_RETRIES": 0}

    def server() -> dict[str, Any]:
        recorded: dict[str, Any] = json.loads((home / "server.json").read_text())
        return recorded

    first = start(*command, **environment)
    until(answered(simulator, 4), first)
    first.kill()
    end(first)
    left = server()
    assert healthy(left["url"])

    second = start(*command, **environment)
    until(answered(simulator, 16), second)
    assert server() == left, "the next run uses the server that the killed one left"
    os.kill(left["pid"], signal.SIGKILL)
    ended = end(second)
    assert_complete_without_prefect(ended)

    third = end(start(*command, **environment))
    assert (third.status, third.summary["cached"]) == (0, IMAGES)
    assert not (home / "server.json").exists(), "the last run stops the server that visionflow started"
    assert simulator.ledger().requests <= IMAGES + 4


def test_a_run_that_is_refused_leaves_no_server_behind(home: Path, prefect_home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    environment = {"PREFECT_API_URL": None, "PREFECT_HOME": prefect_home}
    process = start("run", tmp_path / "empty", "--output", tmp_path / "out", **environment)
    until(lambda: (home / "server.json").exists(), process)
    server = ServerProcess.noted()
    assert server is not None
    assert server.alive
    assert end(process).status == 1
    server.wait_for_end()
    assert not server.alive


def assert_complete_without_prefect(ended: Ended) -> None:
    assert ended.status == 0, ended.err
    assert ended.summary["ok"] == IMAGES
    assert Path(ended.summary["report"]).exists()
    assert "Prefect's server is gone" in ended.err
    assert "Traceback" not in ended.err
