"""The command line: exit statuses, the summary as JSON, and one line for every mistake, before anything is paid."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.simulator import Simulator
from tests.runs import ROOT, CommandLine, draw, picture, run_table

HEAVY = {"prefect", "anthropic", "pydantic", "PIL", "pyarrow", "pandas", "numpy", "rich", "yaml", "s3fs", "aiohttp"}
HEAVY |= {"rapidfuzz"}
SUMMARY = {
    *("run_id", "job", "status", "images", "ok", "failed", "cached", "duplicates", "calls", "input_tokens"),
    *("output_tokens", "cost_usd", "cost_cny", "seconds", "results", "calls_table", "costs", "report"),
}


@pytest.mark.parametrize("command", [("prices",), ("--help",), ("prices", "--json")])
def test_a_reader_that_has_seen_enough_ends_a_command_quietly(command: tuple[str, ...]) -> None:
    """As in `visionflow prices | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "flows", *command]
    ended = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert ended.returncode in (0, 141) and ended.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "usage: visionflow [-h] [--version] COMMAND ..."),
        (["run", "--help"], "--max-cost USD"),
        (["run", "in", "--colour", "red"], "visionflow: there is no option --colour. See `visionflow run --help`."),
    ],
    ids=["commands", "options of a command", "a mistake"],
)
def test_help_and_mistakes_import_nothing_heavy(arguments: list[str], told: str) -> None:
    script = (
        "import sys\nfrom flows.__main__ import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    said, _, loaded = done.stdout.rpartition("MODULES")
    assert told in said + done.stderr
    assert not HEAVY & set(loaded.split())


@pytest.mark.usefixtures("prefect_server")
def test_statuses_of_a_run_that_ended(
    visionflow: CommandLine, simulator: Simulator, images: Path, tmp_path: Path
) -> None:
    good = visionflow("run", images, "--output", tmp_path / "out", "--json")
    assert good.status == 0
    assert set(good.summary) >= SUMMARY
    assert (good.summary["status"], good.summary["images"], good.summary["calls"]) == ("completed", 3, 3)
    assert len(good.out.splitlines()) == 1, "with --json, stdout is for programs"
    assert good.summary["cost_usd"] == float(simulator.ledger().cost_usd)
    assert [Path(good.summary[key]).exists() for key in ("results", "calls_table", "costs", "report")] == [True] * 4

    for more, left in (((), 0), (("--refresh",), 3)):
        estimate = visionflow("estimate", images, "--output", tmp_path / "out", "--json", *more)
        assert (estimate.summary["to_ask"], estimate.summary["kept"]) == (left, 3 - left)

    (images / "damaged.jpg").write_bytes(picture(9)[:200])
    failed = visionflow("run", images, "--output", tmp_path / "out")
    assert failed.status == 3
    assert "Done      in" in failed.out and "3 ok, 1 unreadable" in failed.out
    assert "Unreadable damaged.jpg: " in failed.out
    assert "3 images done before" in failed.out
    assert f"${good.summary['cost_usd']} saved by kept answers" in failed.out, "to the last digit"
    assert failed.err == ""

    paused = visionflow(
        "run", draw(tmp_path / "more", 4, 10), "--output", tmp_path / "out", "--max-cost", "0.000001", "--json"
    )
    assert paused.status == 4
    assert (paused.summary["status"], paused.summary["calls"]) == ("paused", 0)
    assert "--max-cost" in paused.summary["message"]
    raised = visionflow("run", tmp_path / "more", "--output", tmp_path / "out", "--max-cost", "1", "--json")
    assert (raised.status, raised.summary["ok"]) == (0, 4)


@pytest.mark.usefixtures("prefect_server")
def test_an_endpoint_that_refuses_in_mid_run_stops_it(
    visionflow: CommandLine, simulator: Simulator, images: Path, tmp_path: Path
) -> None:
    simulator.set_faults(script=["ok", *["402"] * 50])
    arguments = ["run", images, "--output", tmp_path / "out", "--concurrency", "1", "--json"]
    stopped = visionflow(*arguments)
    assert stopped.status == 1
    assert (stopped.summary["status"], stopped.summary["ok"]) == ("stopped", 1)
    assert stopped.summary["statuses"] == {"ok": 1, "unasked": 2}
    assert "402" in stopped.summary["message"] and "Check the account's billing." in stopped.err
    assert "Traceback" not in stopped.err
    simulator.set_faults()
    assert visionflow(*arguments).summary["calls"] == 2


@pytest.mark.usefixtures("prefect_server")
def test_a_job_file_says_what_options_say_and_options_override_it(
    visionflow: CommandLine, simulator: Simulator, images: Path, tmp_path: Path
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        f"source: {images}\noutput: {tmp_path / 'out'}\nname: monthly\nschema: receipt\nmax-cost: 2\n"
        "fallback-prompt: Only the total.\nlimit: 2\n"
    )
    ended = visionflow("run", "--job", job, "--limit", "1", "--json")
    assert (ended.status, ended.summary["job"], ended.summary["images"]) == (0, "monthly", 1)
    settings = json.loads(run_table(tmp_path / "out")["settings"][0])
    assert (settings["schema"], settings["max_cost"], settings["limit"]) == ("receipt", "2", 1)
    assert settings["fallback_prompt"] == ["Only the total."]


@pytest.mark.usefixtures("prefect_server", "simulator")
def test_the_other_commands(visionflow: CommandLine, images: Path, tmp_path: Path) -> None:
    prices = json.loads(visionflow("prices", "--json").out)
    assert "claude-haiku-5-5" in json.dumps(prices)
    assert "claude-haiku-5-5" in visionflow("prices").out
    assert "No finished run in" in visionflow.mistake("report", tmp_path / "out", status=2)
    run_id = visionflow("run", images, "--output", tmp_path / "out", "--json").summary["run_id"]
    assert run_id in visionflow("report", tmp_path / "out").out
    assert f"There are: {run_id}" in visionflow.mistake("report", tmp_path / "out", "--run", "x", status=2)
    assert "unknown fault 'explode'" in visionflow.mistake("simulate", "--faults", "explode=1", status=2)


def ending(lines: str) -> list[str]:
    """How a run says that it ended, without the lines before it and without the run's folder, which is its own."""
    said = lines.splitlines()
    (start,) = (number for number, line in enumerate(said) if line.startswith(("Done", "Paused", "Stopped")))
    return said[start:]


@pytest.mark.usefixtures("prefect_server", "simulator")
def test_report_says_what_the_run_said(visionflow: CommandLine, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (images / "damaged.jpg").write_bytes(picture(9)[:200])
    (images / "copy.jpg").write_bytes(picture(0))
    failed = visionflow("run", images, "--output", out)
    again = visionflow("report", out)
    assert ending(failed.out) == ending(again.out)
    assert "completed_with_failures" not in again.out, "a word of the tables"
    assert "Results   " in again.out

    draw(images, 2, start=20)
    paused = visionflow("run", images, "--output", out, "--max-cost", "0.000001", "--json")
    told = visionflow("report", out)
    assert paused.status == 4
    assert told.out.splitlines()[1].startswith("Paused")
    assert paused.summary["message"] in told.out
    assert visionflow("report", out, "--json").summary == paused.summary
    first = visionflow("report", out, "--run", run_table(out)["run_id"][0], "--json").summary
    assert (first["status"], first["failed"], first["duplicates"]) == ("completed_with_failures", 1, 1)
    assert first["saved_usd"] > 0 and first["calls_maybe_paid"] == 0


@pytest.mark.usefixtures("simulator")
def test_a_prefect_server_that_is_not_there(
    visionflow: CommandLine, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    line = visionflow.mistake("run", images, "--output", tmp_path / "out", status=1)
    assert "Prefect's server at http://127.0.0.1:9/api does not answer. Start it, or unset PREFECT_API_URL." in line
