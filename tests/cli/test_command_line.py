"""The command line: exit statuses, the summary as JSON, and one line for every mistake, before anything is paid."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.__main__ import main
from tasks.simulator import Simulator
from tests.runs import ROOT, Ended, draw, forget_s3_connections, picture, run_table
from tests.s3 import S3Server

HEAVY = {"prefect", "anthropic", "pydantic", "PIL", "pyarrow", "pandas", "numpy", "rich", "yaml", "s3fs", "aiohttp"}
HEAVY |= {"rapidfuzz"}
SUMMARY = {
    *("run_id", "job", "status", "images", "ok", "failed", "cached", "duplicates", "calls", "input_tokens"),
    *("output_tokens", "cost_usd", "cost_cny", "seconds", "results", "calls_table", "costs", "report"),
}


@dataclass
class CommandLine:
    """`visionflow` in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Ended:
        self.capture.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        out, err = self.capture.readouterr()
        return Ended(status, out, err)

    def mistake(self, *arguments: object, status: int) -> str:
        """The one line on stderr with which the command refuses."""
        ended = self(*arguments)
        assert ended.status == status, ended
        line = ended.err.removesuffix("\n")
        assert line.startswith("visionflow: ")
        assert "\n" not in line and "Traceback" not in ended.err + ended.out
        return line


@pytest.fixture
def visionflow(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw(tmp_path / "images", 3)


@pytest.fixture
def unpaid(simulator: Simulator) -> Iterator[Simulator]:
    """A simulator that must not have been asked about one image when the test ends."""
    yield simulator
    assert simulator.ledger().requests == 0


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


NO_OPTION = [
    (["--colour", "red"], "there is no option --colour."),
    (["--concurency", "3"], "there is no option --concurency. Did you mean --concurrency?"),
    (["--concurency=3"], "there is no option --concurency. Did you mean --concurrency?"),
    (["--max", "5"], "there is no option --max. Did you mean --max-tokens or --max-cost or --max-failed?"),
    (["b.jpg", "c.jpg"], "'b.jpg' is one word too many: put a glob in quotes."),
    (["--limit"], "argument --limit: expected one argument."),
]


@pytest.mark.parametrize(("more", "said"), NO_OPTION, ids=lambda given: given[0] if isinstance(given, list) else "")
def test_a_wrong_option_names_those_that_are_near_and_the_command_s_help(
    visionflow: CommandLine, more: list[str], said: str
) -> None:
    line = visionflow.mistake("run", "a.jpg", "--output", "out", *more, status=2)
    assert line == f"visionflow: {said} See `visionflow run --help`."


def test_a_wrong_command_names_the_commands(visionflow: CommandLine) -> None:
    line = visionflow.mistake("ruin", status=2)
    assert "invalid choice: 'ruin' (choose from" in line
    assert line.endswith("See `visionflow --help`.")


NOT_ALLOWED = [
    (["--rps", "fast"], "--rps: 'fast' is no number."),
    (["--limit", "2.5"], "--limit: '2.5' is no whole number."),
    (["--concurrency", "0"], "--concurrency: '0' is not allowed: it must be at least 1."),
    (["--timeout", "0"], "--timeout: '0' is not allowed: it must be more than 0."),
    (["--effort", "heroic"], "--effort: 'heroic' is not one of 'low', 'medium', 'high', 'xhigh', 'max'."),
    (["--max-cost", "cheap"], "--max-cost: 'cheap' is no number."),
    (["--prompt", "@missing.txt"], "--prompt: '@missing.txt' cannot be read: No such file or directory."),
    (
        ["--preset", "ocrr"],
        "--preset: There is no preset 'ocrr'. Take one of: ocr, object_detection, classification.",
    ),
    (["--no-wait"], "--no-wait is for --mode batch: a call online is waited for."),
]


@pytest.mark.usefixtures("unpaid")
@pytest.mark.parametrize(("more", "said"), NOT_ALLOWED, ids=lambda given: given[0] if isinstance(given, list) else "")
def test_a_value_that_is_not_allowed(
    visionflow: CommandLine, images: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    assert visionflow.mistake("run", images, "--output", tmp_path / "out", *more, status=2) == f"visionflow: {said}"


@pytest.mark.usefixtures("unpaid")
@pytest.mark.parametrize("name", ["../out", "2026", "inf", "Epoch", "with space", "a=b", "x" * 61])
def test_a_name_that_readers_of_the_tables_would_take_for_something_else(
    visionflow: CommandLine, images: Path, tmp_path: Path, name: str
) -> None:
    line = visionflow.mistake("run", images, "--output", tmp_path / "out", "--name", name, status=2)
    assert line == (
        f"visionflow: --name: {name!r} must start with a letter and hold only letters, digits, '.', '-' and '_', at "
        "most 60 in all; 'inf', 'infinity' and 'epoch' are taken."
    )


@pytest.mark.usefixtures("unpaid")
def test_what_is_missing_or_has_no_price(visionflow: CommandLine, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert visionflow.mistake("run", images, status=2) == (
        "visionflow: --output is missing: name a local folder or s3://bucket/prefix for the results."
    )
    assert visionflow.mistake("run", "--output", out, status=2) == (
        "visionflow: SOURCE is missing: name a folder, a file, a glob, a manifest or s3://bucket/prefix."
    )
    assert visionflow.mistake("run", images, "--output", out, "--model", "claude-x", status=1).startswith(
        "visionflow: No price for the model 'claude-x' at custom, so no bill could be exact. Check --model"
    )


@pytest.mark.usefixtures("unpaid")
def test_sources_that_cannot_be_listed(visionflow: CommandLine, tmp_path: Path) -> None:
    def refusal(source: object) -> str:
        return visionflow.mistake("run", source, "--output", tmp_path / "out", status=1)

    (tmp_path / "empty").mkdir()
    assert f"No image in {tmp_path / 'empty'}: it is empty" in refusal(tmp_path / "empty")
    assert f"There is no {tmp_path / 'nothing'}. Check the path" in refusal(tmp_path / "nothing")
    assert "Nothing matches" in refusal(tmp_path / "*.jpg")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    assert "passed over 1 .txt" in refusal(tmp_path / "texts")
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    assert "has no column of images" in refusal(tmp_path / "list.csv")


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Root may read everything, so as root go on as nobody, who may not read `folder`."""
    if os.geteuid() != 0:
        folder.chmod(0o000)
        yield
        folder.chmod(0o700)
        return
    folder.chmod(0o700)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("unpaid")
def test_an_unreadable_folder(visionflow: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        locked = draw(Path(place) / "locked", 1)
        (Path(place) / "out").mkdir(mode=0o777)
        (Path(place) / "out").chmod(0o777)
        monkeypatch.setenv("VISIONFLOW_HOME", f"{place}/out/home")
        visionflow.mistake("run", f"{place}/none", "--output", f"{place}/out", status=1)  # imports what nobody cannot
        with ordinary_user(locked):
            line = visionflow.mistake("run", locked, "--output", f"{place}/out", status=1)
    assert f"No permission to read {locked}. Check its owner and mode" in line


@pytest.mark.usefixtures("unpaid")
def test_a_bucket_that_is_missing_and_a_key_that_is_wrong(
    visionflow: CommandLine, s3_server: S3Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_s3_connections()
    missing = visionflow.mistake("run", "s3://nobody-has-it/in", "--output", tmp_path / "out", status=1)
    assert "There is no s3://nobody-has-it/in: check the bucket 'nobody-has-it'" in missing
    nowhere = visionflow.mistake("run", images, "--output", "s3://nobody-has-it/out", status=1)
    assert "There is no s3://nobody-has-it/out: check the bucket 'nobody-has-it'" in nowhere
    empty = visionflow.mistake("run", f"s3://{s3_server.bucket}/nothing", "--output", tmp_path / "out", status=1)
    assert f"No image in s3://{s3_server.bucket}/nothing" in empty
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    forget_s3_connections()
    wrong = visionflow.mistake("run", f"s3://{s3_server.bucket}/in", "--output", tmp_path / "out", status=1)
    assert "Check AWS_ACCESS_KEY_ID" in wrong and "not the secret" not in wrong
    forget_s3_connections()


def test_keys_and_addresses_of_the_endpoint(
    visionflow: CommandLine, unpaid: Simulator, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(*more: str) -> str:
        return visionflow.mistake("run", images, "--output", tmp_path / "out", *more, status=1)

    assert "Cannot reach http://127.0.0.1:9" in refusal("--endpoint", "http://127.0.0.1:9")
    assert "no address of an endpoint" in refusal("--endpoint", "ftp://example.com")
    assert refusal("--endpoint", "antropic") == (
        "visionflow: --endpoint: There is no endpoint 'antropic'. "
        "Take one of: anthropic, holysheep, simulator, or a URL."
    )
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-invalid-secret")
    wrong = refusal()
    assert f"{unpaid.url} refuses the key (401 invalid x-api-key). Check ANTHROPIC_API_KEY" in wrong
    assert "secret" not in wrong
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert "the environment variable ANTHROPIC_API_KEY is empty. Set it" in refusal()


@pytest.mark.usefixtures("unpaid")
def test_schemas_that_cannot_be_used(visionflow: CommandLine, images: Path, tmp_path: Path) -> None:
    def refusal(schema: object) -> str:
        return visionflow.mistake("run", images, "--output", tmp_path / "out", "--schema", schema, status=1)

    (tmp_path / "broken.json").write_text('{"type": "object", ')
    (tmp_path / "wrong.json").write_text('{"type": "objet"}')
    for schema in (tmp_path / "broken.json", tmp_path / "wrong.json", tmp_path / "none.json", "no.module:Model"):
        assert str(schema).rpartition("/")[2].split(":")[0] in refusal(schema)


@pytest.mark.usefixtures("unpaid")
def test_an_output_that_cannot_be_written(visionflow: CommandLine, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    line = visionflow.mistake("run", images, "--output", tmp_path / "file" / "out", status=1)
    assert "a file stands where a folder should be" in line
    assert "is no output" in visionflow.mistake("run", images, "--output", "gs://bucket/x", status=2)


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
