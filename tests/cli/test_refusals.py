"""What the command line refuses, each in one line that says what to do, before anything is paid."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.simulator import Simulator
from tests.runs import CommandLine, draw, forget_s3_connections
from tests.s3 import S3Server

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
    assert "https://example.com/a.jpg is no source" in refusal("https://example.com/a.jpg")
    assert f"There is no {tmp_path / 'no thing'}." in refusal(f"file://{tmp_path}/no%20thing")


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
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-one\nsk-ant-two")
    assert "The key in ANTHROPIC_API_KEY has a space, a line end" in (wrong := refusal()) and "sk-ant" not in wrong
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


@pytest.mark.usefixtures("prefect_server")
def test_a_report_that_cannot_be_written_leaves_the_summary(
    visionflow: CommandLine, simulator: Simulator, images: Path, tmp_path: Path
) -> None:
    """All was asked, paid and written down: a script learns where, and that something is wrong."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "reports").write_text("in the way")
    ended = visionflow("run", images, "--output", output, "--json")
    assert ended.status == 1
    assert "report.html: a file stands where a folder should be" in ended.err.splitlines()[-1]
    assert ended.summary["ok"] == ended.summary["images"] == simulator.ledger().requests > 0
    assert Path(ended.summary["results"]).is_dir()
