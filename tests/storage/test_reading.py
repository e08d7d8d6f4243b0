"""Reading a listed file: its bytes, or why not."""

import os
from pathlib import Path

import pytest

from tasks.errors import ImageError
from tasks.storage.reading import SourceUnavailable, read_source
from tasks.types import Source
from tests.runs import forget_s3_connections
from tests.s3 import S3Server


def source(uri: object, size: int = 10) -> Source:
    return Source(uri=str(uri), name=str(uri).rpartition("/")[2], size=size)


def refusal(uri: object, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        read_source(source(uri, options.pop("size", 10)), most_bytes=100)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_local_bytes_whole_or_in_part(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"0123456789")
    assert read_source(source(tmp_path / "a.jpg"), most_bytes=10) == b"0123456789"
    assert read_source(source(tmp_path / "a.jpg"), most_bytes=10, start=2, end=5) == b"234"
    assert read_source(source(tmp_path / "a.jpg", size=10_000), most_bytes=10, end=4) == b"0123", "a header of any file"


def test_what_cannot_be_read_is_a_reason_of_one_word(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.jpg") == "missing"
    assert refusal(tmp_path) == "not_a_file"
    assert refusal(tmp_path / "large.jpg", size=101) == "too_large"


def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(tmp_path / "pipe.jpg") == "not_a_file"
    assert refusal("/dev/zero") == "not_a_file"


def test_s3_bytes_and_refusals(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_s3_connections()
    s3_server.client().put_object(Bucket=s3_server.bucket, Key="reading/a.jpg", Body=b"0123456789")
    uri = f"s3://{s3_server.bucket}/reading/a.jpg"
    assert read_source(source(uri), most_bytes=10) == b"0123456789"
    assert read_source(source(uri), most_bytes=10, start=2, end=5) == b"234"
    assert refusal(f"s3://{s3_server.bucket}/reading/gone.jpg") == "missing"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget_s3_connections()
    assert refusal(uri) == "forbidden"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore would try for seconds
    forget_s3_connections()
    with pytest.raises(SourceUnavailable, match=r"Cannot reach http://127.0.0.1:9"):
        read_source(source(uri), most_bytes=10)
    forget_s3_connections()
