"""`visionflow check`: what is damaged is found and set aside, what is missing of a killed run is completed."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from flows.cli.server import CLIENT_ENVIRONMENT
from tasks.simulator import Simulator
from tests.runs import ROOT, draw, end, hold, rows, run_table, start, until

IMAGES = 12


@pytest.fixture
def command(simulator: Simulator, tmp_path: Path) -> list[object]:
    images = draw(tmp_path / "images", IMAGES)
    return ["run", images, "--output", tmp_path / "out", "--concurrency", "3", "--json", "--name", "job"]


def records(home: Path, kind: str) -> list[Path]:
    return sorted(path for path in (home / "results" / kind).rglob("*") if path.is_file())


@pytest.mark.usefixtures("prefect_server")
def test_damage_anywhere_is_found_and_only_that_is_asked_again(
    simulator: Simulator, command: list[object], home: Path, tmp_path: Path
) -> None:
    first = end(start(*command))
    assert first.status == 0, first.err
    well = end(start("check", tmp_path / "out"))
    assert well.status == 0 and "all is well" in well.out, well.out + well.err
    assert f"{IMAGES} answers" in well.out

    answer, chunks = records(home, "answers")[0], records(home, "batches")
    answer.write_bytes(answer.read_bytes().replace(b"simulator", b"simulat0r", 1))
    for path in chunks:
        path.write_bytes(path.read_bytes()[:-20])
    (part,) = Path(first.summary["calls_table"]).glob("*.parquet")
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])

    checked = end(start("check", tmp_path / "out", "--json"))
    assert checked.status == 0, checked.err[-600:]
    found = checked.summary
    assert found["damaged"] == {"answers": 1, "finished batches": len(chunks), "parts of calls": 1} | {
        name: 0 for name in found["damaged"] if name not in ("answers", "finished batches", "parts of calls")
    }
    assert "is damaged" in checked.err and not answer.exists() and not part.exists()
    again = end(start(*command))
    assert (again.status, again.summary["calls"], again.summary["ok"]) == (0, 1, IMAGES)
    assert simulator.ledger().requests == IMAGES + 1


@pytest.mark.usefixtures("prefect_server")
def test_a_killed_run_gets_its_calls_and_its_bill(
    simulator: Simulator, command: list[object], home: Path, tmp_path: Path
) -> None:
    simulator.change(latency=0.3)
    process = start(*command)
    until(lambda: simulator.ledger(entries=False).billed >= 5)
    hold(simulator, 3)
    process.kill()
    end(process)
    simulator.change(latency=0.0)
    waiting = end(start("check"))
    assert waiting.status == 0 and "takes them in" in waiting.out, "nothing but OUTPUT says where they belong"

    checked = end(start("check", tmp_path / "out"))
    assert checked.status == 0 and "Recovered  job, run" in checked.out.replace("Recovered job", "Recovered  job")
    (run,) = run_table(tmp_path / "out").to_dict("records")
    assert run["status"] == "interrupted"
    calls, costs = pd.read_parquet(tmp_path / "out/calls"), pd.read_parquet(tmp_path / "out/costs")
    assert calls["cost_usd"].sum() == costs["cost_usd"].sum() == run["cost_usd"] > 0
    assert 3 <= (calls["paid"] == "maybe").sum() == costs["calls_maybe_paid"].sum() <= 6, "in flight, or not kept yet"
    assert not list((home / "journal").rglob("*.jsonl"))

    again = end(start(*command))
    assert (again.status, again.summary["ok"], again.summary["calls_maybe_paid"]) == (0, IMAGES, 0)
    assert len(rows(again.summary)) == IMAGES


def test_an_output_without_a_run_is_not_well(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "mistyped"):
        checked = end(start("check", nothing))
        assert (checked.status, checked.err) == (2, f"visionflow: No run in {nothing}. Check OUTPUT.\n")


def test_prefect_says_nothing_in_a_terminal(tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "flows", "check", "mistyped"]
    unset = {name: value for name, value in os.environ.items() if name not in CLIENT_ENVIRONMENT}
    path = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env={**unset, **path}, stdout=terminal, stderr=terminal) as process:
        assert process.wait(60) == 2
    assert os.read(screen, 10_000).decode().splitlines() == ["visionflow: No run in mistyped. Check OUTPUT."]
    os.close(screen)
    os.close(terminal)


def test_what_cannot_be_read_is_said(tmp_path: Path, home: Path) -> None:
    (home / "results" / "answers").mkdir(parents=True)
    (tmp_path / "out").write_text("a file, not a folder")
    checked = end(start("check", tmp_path / "out"))
    assert checked.status == 1 and "Traceback" not in checked.err
