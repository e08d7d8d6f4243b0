"""A folder and prefixes of S3 with images, for tests of the listing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmark.listing import CREDENTIALS, served
from tests.runs import forget_s3_connections, picture
from tests.s3 import S3Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of every kind of name beside files that are none."""
    root = tmp_path / "in"
    for name in ("b.jpg", "a.PNG", "deep/er/c.tiff", "deep/Ảnh số 1.webp", "no-extension", ".hidden.jpg", ".git/d.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(1))
    (root / "broken.jpg").write_bytes(b"not an image at all")
    (root / "notes.txt").write_text("text")
    (root / "README").write_text("no extension, no image")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def prefix(s3_server: S3Server, tmp_path: Path) -> Iterator[str]:
    """The same kinds of names in a bucket."""
    client = s3_server.client()
    for name in ("b.jpg", "deep/a.png", "no-extension", ".hidden.jpg", "notes.txt"):
        body = b"text" if name == "notes.txt" else picture(1)
        client.put_object(Bucket=s3_server.bucket, Key=f"{tmp_path.name}/{name}", Body=body)
    forget_s3_connections()
    yield f"s3://{s3_server.bucket}/{tmp_path.name}"
    forget_s3_connections()


@pytest.fixture
def many(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix of 2,500 keys at a server of pages."""
    with served(2500) as url:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        forget_s3_connections()
        yield "s3://pictures/2026"
    forget_s3_connections()
