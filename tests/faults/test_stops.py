"""Runs that are told to end from outside: they finish and keep what is in flight, and leave every table."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import resume_flow_run
from prefect.states import Cancelling, Suspended

from flows import analyze_images
from tasks.asking.halting import Halt
from tasks.simulator import Simulator
from tests.asking import asking, pages
from tests.deployments import forget_deployments
from tests.runs import ROOT, draw, hold, run_table, until

IMAGES, IN_FLIGHT, TIMEOUT_S = 30, 5, 60
TABLES = {"results", "calls", "costs", "runs", "reports"}


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@contextmanager
def serving(client: SyncPrefectClient, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """`visionflow serve` in a terminal of its own: Ctrl-C there reaches its process group."""
    forget_deployments(client)  # with the places that runs of other tests may still hold in them
    log = (tmp_path / "screen").open("w+")
    command = [sys.executable, "-m", "flows", "serve"]
    environment = {**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=log, stderr=log, start_new_session=True
    )
    try:
        while "Ctrl-C ends it" not in (tmp_path / "screen").read_text():
            assert process.poll() is None, (tmp_path / "screen").read_text()
            time.sleep(0.2)
        while True:
            try:
                client.read_deployment_by_name("analyze-images/ad-hoc")
                break
            except ObjectNotFound:
                time.sleep(0.2)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start_run(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> FlowRun:
    """A run from the form, with so many calls held in flight after the first answers."""
    simulator.change(latency=0.2)
    job = {"name": "job", "preset": "classification", "labels": ["a", "b"], "concurrency": IN_FLIGHT}
    job["timeout"] = TIMEOUT_S
    parameters: dict[str, Any] = {
        "source": str(draw(tmp_path / "images", IMAGES)),
        "output": str(tmp_path / "out"),
        "job": job,
    }
    deployment = client.read_deployment_by_name("analyze-images/ad-hoc")
    flow_run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    until(lambda: simulator.ledger(entries=False).billed >= IN_FLIGHT, 120)
    hold(simulator, IN_FLIGHT)
    return flow_run


def answer_what_is_in_flight(simulator: Simulator, tmp_path: Path) -> None:
    """Once the run has said that it waits for it, and for no more."""
    line = f"Finishing {IN_FLIGHT} calls in flight of run "
    until(lambda: line in (tmp_path / "screen").read_text())
    simulator.change(latency=0)
    simulator.let_go()


def check_tables(simulator: Simulator, output: Path, why: str) -> None:
    """Every table is there, and every call that was made was answered, kept and paid."""
    assert {path.name for path in output.iterdir()} >= TABLES
    ledger, calls, run = simulator.ledger(), pd.read_parquet(output / "calls"), run_table(output).iloc[-1]
    assert ledger.requests == ledger.billed == len(calls) < IMAGES
    assert set(calls["paid"]) == {"yes"}
    assert calls["cost_usd"].sum() == pd.read_parquet(output / "costs")["cost_usd"].sum() == ledger.cost_usd
    assert (run["status"], run["rows"], run["ok"]) == ("interrupted", IMAGES, ledger.billed)
    assert why in run["message"]


def test_suspended_and_resumed(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> None:
    with serving(client, tmp_path):
        flow_run = start_run(client, simulator, tmp_path)
        client.set_flow_run_state(flow_run.id, Suspended())
        answer_what_is_in_flight(simulator, tmp_path)
        until(lambda: (tmp_path / "out" / "reports").exists())
        check_tables(simulator, tmp_path / "out", "Suspended in Prefect. Resume goes on")
        state = client.read_flow_run(flow_run.id).state
        assert state is not None and state.name == "Suspended"
        assert "CancelledError" not in (tmp_path / "screen").read_text()

        resume_flow_run(flow_run.id)
        until(lambda: client.read_flow_run(flow_run.id).state_name == "Completed")
    assert run_table(tmp_path / "out")["ok"].tolist()[-1] == IMAGES
    counts = Counter(entry.image for entry in simulator.ledger().entries if entry.billed)
    assert len(counts) == IMAGES
    assert max(counts.values()) == 1, "nothing is paid twice"


def test_ctrl_c_where_deployments_are_served(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> None:
    with serving(client, tmp_path) as process:
        flow_run = start_run(client, simulator, tmp_path)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the run gets it too
        answer_what_is_in_flight(simulator, tmp_path)
        process.wait(90)
        screen = (tmp_path / "screen").read_text()
    assert process.returncode == 0
    assert "Ending    One run finishes its calls in flight and writes its tables. Ctrl-C again ends at once." in screen
    assert screen.count(f"Finishing {IN_FLIGHT} calls in flight of run ") == 1, "whoever else asks the run to end too"
    assert "Traceback" not in screen
    check_tables(simulator, tmp_path / "out", "Interrupted (SIG")
    state = client.read_flow_run(flow_run.id).state
    assert state is not None and state.type == "CANCELLED"


@pytest.mark.all
def test_a_second_ctrl_c_where_deployments_are_served(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path
) -> None:
    with serving(client, tmp_path) as process:
        flow_run = start_run(client, simulator, tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: "Finishing " in (tmp_path / "screen").read_text())
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        process.wait(40)
    assert process.returncode == 130
    state = client.read_flow_run(flow_run.id).state
    assert state is not None and state.type in ("CRASHED", "CANCELLED"), "never Running for ever"


def test_cancelled_from_the_ui(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> None:
    with serving(client, tmp_path):
        flow_run = start_run(client, simulator, tmp_path)
        client.set_flow_run_state(flow_run.id, Cancelling())
        answer_what_is_in_flight(simulator, tmp_path)
        until(lambda: client.read_flow_run(flow_run.id).state.type == "CANCELLED")  # type: ignore[union-attr]
    check_tables(simulator, tmp_path / "out", "Interrupted (SIGTERM)")
    state = client.read_flow_run(flow_run.id).state
    assert state is not None
    assert (state.name, "ok" in str(state.message)) == ("Interrupted", True), "the run's own last words"


@pytest.mark.usefixtures("prefect_server")
def test_an_awaited_run_that_is_cancelled(simulator: Simulator, tmp_path: Path) -> None:
    """As a notebook's interrupt does, or a time limit of an async program: the run ends in good order first."""
    simulator.change(latency=1)
    images = draw(tmp_path / "images", IMAGES)

    async def cell() -> None:
        run = analyze_images(str(images), str(tmp_path / "out"), job={"name": "job", "concurrency": IN_FLIGHT})
        task = asyncio.ensure_future(run)
        while simulator.ledger(entries=False).billed < IN_FLIGHT:
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cell())
    check_tables(simulator, tmp_path / "out", "Interrupted where it was awaited.")


def test_calls_in_flight_are_cut_off_when_their_time_is_over(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(latency=600)
    with asking(simulator.url, tmp_path, concurrency=3, timeout=600.0) as asked:
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.extend(asked.ask(pages(6), attempts=5)))
        thread.start()
        until(lambda: simulator.ledger(entries=False).in_flight == 3)
        began = time.monotonic()
        asked.engine.stop(Halt("interrupted", "Interrupted (SIGTERM).", patience=1.0))
        thread.join(90)
        assert 1.0 <= time.monotonic() - began < 60
        assert [outcome.status for outcome in outcomes] == ["unasked"] * 6
        assert [(call["paid"], call["error_type"]) for call in asked.calls] == [("maybe", "cut_off")] * 3


@contextmanager
def working(client: SyncPrefectClient, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A worker in a terminal of its own and another folder, for `ad-hoc` deployed as deployments/README.md says."""
    environment = {**os.environ, "PREFECT_WORKER_QUERY_SECONDS": "1", "PYTHONUNBUFFERED": "1"}
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    command = f"command={sys.executable} -m flows.cli.supervisor"
    deploy = ["deploy", "--name", "ad-hoc", "--prefect-file", "deployments/prefect.yaml", "--job-variable", command]
    for step in (["work-pool", "create", "images", "--type", "process", "--overwrite"], deploy):
        subprocess.run([*prefect, *step], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120)
    with (tmp_path / "screen").open("w+") as log:
        worker = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", "images"],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.mark.parametrize("how", [pytest.param("Ctrl-C", marks=pytest.mark.all), "SIGTERM"])
def test_a_worker_that_is_stopped(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path, how: str) -> None:
    with working(client, tmp_path) as worker:
        flow_run = start_run(client, simulator, tmp_path)
        if how == "Ctrl-C":
            os.killpg(worker.pid, signal.SIGINT)
        else:
            worker.terminate()
        worker.wait(90)
        simulator.change(latency=2)  # the run hears of it a moment later
        simulator.let_go()
        until(lambda: client.read_flow_run(flow_run.id).state.is_final())  # type: ignore[union-attr]
    check_tables(simulator, tmp_path / "out", "Interrupted (SIGHUP).")
    state = client.read_flow_run(flow_run.id).state
    assert state is not None and state.type == "CANCELLED"


@pytest.mark.all
def test_a_worker_that_is_killed(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> None:
    with working(client, tmp_path) as worker:
        flow_run = start_run(client, simulator, tmp_path)
        worker.kill()
        worker.wait()
        simulator.change(latency=0)
        simulator.let_go()
        until(lambda: client.read_flow_run(flow_run.id).state.is_final())  # type: ignore[union-attr]
    assert client.read_flow_run(flow_run.id).state_name == "Completed", "nobody told it to end"
    assert run_table(tmp_path / "out")["ok"].tolist() == [IMAGES]
    assert simulator.ledger().billed == IMAGES


@pytest.mark.all
def test_cancelled_through_a_worker(client: SyncPrefectClient, simulator: Simulator, tmp_path: Path) -> None:
    """Also where an answer takes longer than the 30 s after which the worker kills what it started.

    Then Prefect says Cancelled while calls in flight still finish; the run ends within their time limit and 10 s.
    """
    with working(client, tmp_path):
        flow_run = start_run(client, simulator, tmp_path)
        before = simulator.ledger(entries=False).billed
        simulator.change(latency=45)
        simulator.let_go()
        until(lambda: simulator.ledger(entries=False).requests >= before + 2 * IN_FLIGHT)
        client.set_flow_run_state(flow_run.id, Cancelling())
        cancelled = time.monotonic()
        until(lambda: client.read_flow_run(flow_run.id).state.type == "CANCELLED")  # type: ignore[union-attr]
        until(lambda: (tmp_path / "out" / "reports").exists())
        assert time.monotonic() - cancelled < TIMEOUT_S + 10
    check_tables(simulator, tmp_path / "out", "Interrupted (SIGHUP).")
