"""Outputs, on a disk and on a real S3 server: whole files, and refusals that a person understands."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from tasks.errors import OutputError, UsageError
from tasks.storage.output import Output, explained, open_output
from tasks.storage.s3 import s3_filesystem
from tests.s3 import S3Server

TABLE = pa.table({"image": ["a.jpg", "b.jpg"], "page": [1, 2]})


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "local":
        return open_output(str(tmp_path / "out"))
    server: S3Server = request.getfixturevalue("s3_server")
    _forget_connections()
    return open_output(f"s3://{server.bucket}/{tmp_path.name}/")


def test_files_are_written_listed_and_read_back(output: Output) -> None:
    assert output.list() == []
    output.check_writable()
    output.write_table("runs/job=a/run=1/run.parquet", TABLE)
    output.write_text("reports/job=a/run=1/report.html", "<p>Tổng cộng</p>")

    assert output.list() == ["reports/job=a/run=1/report.html", "runs/job=a/run=1/run.parquet"]
    assert output.list("runs/job=a") == ["runs/job=a/run=1/run.parquet"]
    assert output.list("nothing") == []
    assert output.exists("runs/job=a/run=1/run.parquet")
    assert not output.exists("runs/job=a/run=2/run.parquet")
    assert output.read_table("runs").column("image").to_pylist() == ["a.jpg", "b.jpg"]
    assert set(output.read_table("runs").column_names) == {"image", "page"}
    assert output.read_table("runs", columns=["page"]).column_names == ["page"]
    assert [part.to_pydict() for part in output.read_parts("runs", ["image"])] == [{"image": ["a.jpg", "b.jpg"]}]


def test_writing_again_replaces(output: Output) -> None:
    output.write_table("costs.parquet", TABLE)
    output.write_table("costs.parquet", TABLE.slice(1))
    assert output.read_table("costs.parquet").num_rows == 1


def test_reading_what_is_not_there_says_so(output: Output) -> None:
    with pytest.raises(OutputError, match="results/job=x"):
        output.read_table("results/job=x")


def test_a_killed_writer_leaves_only_whole_parts(tmp_path: Path) -> None:
    script = (
        "import sys, pyarrow as pa; from tasks.storage.output import open_output\n"
        "output = open_output(sys.argv[1]); table = pa.table({'n': list(range(200_000))})\n"
        "for n in range(100_000): output.write_table(f'part-{n:05}.parquet', table)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "part-00010.parquet").exists():
            assert writer.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    parts = sorted(tmp_path.glob("*.parquet"))
    assert len(parts) > 10
    assert all(pq.read_table(part).num_rows == 200_000 for part in parts)


def test_a_local_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="a file stands where a folder should be"):
        open_output(str(tmp_path / "file" / "out")).check_writable()
    with _ordinary_user(), pytest.raises(OutputError, match=r"No permission to write .*closed/out"):
        open_output(str(tmp_path / "closed" / "out")).check_writable()


def test_a_full_disk_is_named() -> None:
    with pytest.raises(OutputError, match=r"No space left for /dev/full\. Free some") as caught, explained("/dev/full"):
        Path("/dev/full").write_bytes(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_a_file_cut_by_a_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from tasks.storage.output import open_output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "open_output(sys.argv[1]).write_text('report.html', 'x' * 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True)
    assert "OutputError: Cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_s3_refusals(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(uri: str, **environment: str) -> str:
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value)
            _forget_connections()
            output = open_output(uri)
            with pytest.raises(OutputError) as caught:
                output.check_writable()
        _forget_connections()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    ours = f"s3://{s3_server.bucket}/facts"
    assert "There is no s3://nobody-has-it/facts: check the bucket" in refusal("s3://nobody-has-it/facts")
    reader = refusal(ours, **s3_server.reader_env)
    assert f"No access to {ours}" in reader
    assert "AKIA…R01" in reader
    assert "s3:PutObject" in reader
    assert "SignatureDoesNotMatch" in refusal(ours, AWS_SECRET_ACCESS_KEY="wrong")
    assert "InvalidAccessKeyId" in refusal(ours, AWS_ACCESS_KEY_ID="AKIAUNKNOWNUNKNOWN01")
    assert "http://127.0.0.1:9" in refusal(ours, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")


def test_a_reader_may_still_read(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_connections()
    open_output(f"s3://{s3_server.bucket}/shared").write_table("a.parquet", TABLE)
    with monkeypatch.context() as changed:
        for name, value in s3_server.reader_env.items():
            changed.setenv(name, value)
        _forget_connections()
        assert open_output(f"s3://{s3_server.bucket}/shared").read_table("a.parquet").num_rows == 2
    _forget_connections()


@pytest.mark.parametrize("uri", ["gs://bucket/x", "s3://", "https://example.com/x"])
def test_other_places_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="Name a local folder or s3://bucket/prefix"):
        open_output(uri)


def _forget_connections() -> None:
    """Let the next connection read the AWS variables anew, as a new process would."""
    s3_filesystem.cache_clear()
    S3FileSystem.clear_instance_cache()


@contextmanager
def _ordinary_user() -> Iterator[None]:
    """Root is refused nothing, so as root go on as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
