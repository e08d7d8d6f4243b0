"""Objects on S3, read by one request each."""

from collections.abc import Iterator

import pytest

from tasks.storage.s3 import read_object_now
from tests.runs import forget_s3_connections
from tests.s3 import S3Server, noted_requests


@pytest.fixture
def requests(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The methods of all requests made to the server."""
    forget_s3_connections()
    yield noted_requests(monkeypatch)
    forget_s3_connections()


@pytest.mark.parametrize("name", ["a.jpg", "a b+c/ü#?%41.jpg", "日本/~x=1&y.jpg"])
def test_an_object_is_read_by_one_request_whatever_its_name(
    requests: list[str], s3_server: S3Server, name: str
) -> None:
    s3_server.client().put_object(Bucket=s3_server.bucket, Key=f"one/{name}", Body=b"0123456789")
    assert read_object_now(f"s3://{s3_server.bucket}/one/{name}") == b"0123456789"
    assert requests == ["GET"]


def test_an_object_that_is_not_there_is_missed_by_one_request(requests: list[str], s3_server: S3Server) -> None:
    with pytest.raises(FileNotFoundError):
        read_object_now(f"s3://{s3_server.bucket}/nothing/here")
    assert requests == ["GET"]


def test_what_goes_wrong_is_asked_again_by_s3fs_which_knows_its_name(requests: list[str], s3_server: S3Server) -> None:
    with pytest.raises(FileNotFoundError, match="bucket"):
        read_object_now("s3://no-such-bucket-of-ours/here")
    assert requests == ["GET", "GET"]
