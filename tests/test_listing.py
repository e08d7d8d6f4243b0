"""Listing: what counts as an image, from a folder, a file, a glob, a manifest or S3."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import SourceError
from tasks.listing import Listing, list_images
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


def names(listing: Listing) -> list[str]:
    return [image.name for image in listing.images]


def test_a_folder_is_listed_to_its_depth_in_order(folder: Path) -> None:
    listing = list_images(str(folder))
    assert names(listing) == ["a.PNG", "b.jpg", "broken.jpg", "deep/er/c.tiff", "deep/Ảnh số 1.webp", "no-extension"]
    assert listing.passed_over == {".txt": 1, "no extension": 1}
    first = listing.images[0]
    status = (folder / "a.PNG").stat()
    assert first.uri == str(folder / "a.PNG")
    assert first.size == status.st_size == len(picture(1))
    assert first.modified == datetime.fromtimestamp(status.st_mtime_ns / 1e9, tz=UTC)
    assert listing.total_bytes == 5 * len(picture(1)) + len(b"not an image at all")


def test_one_file_is_listed_whatever_its_name(folder: Path) -> None:
    assert names(list_images(str(folder / "b.jpg"))) == ["b.jpg"]
    assert names(list_images(str(folder / "README"))) == ["README"]
    assert names(list_images(str(folder / ".hidden.jpg"))) == [".hidden.jpg"]


def test_a_path_may_be_relative_or_at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert list_images("in").images == list_images("~/in").images == list_images(str(folder)).images


def test_a_glob_chooses_files(folder: Path) -> None:
    assert names(list_images(str(folder / "*.jpg"))) == ["b.jpg", "broken.jpg"]
    deep = list_images(str(folder / "**" / "*"))
    assert "deep/er/c.tiff" in names(deep)
    assert deep.passed_over == {".txt": 1, "no extension": 1}
    (folder / "odd[1].jpg").write_bytes(picture(1))
    assert names(list_images(str(folder / "odd[1].jpg"))) == ["odd[1].jpg"], "a file of that very name comes first"


def test_include_exclude_and_limit(folder: Path) -> None:
    assert names(list_images(str(folder), include=["*.jpg"])) == ["b.jpg", "broken.jpg"]
    assert names(list_images(str(folder), include=["deep/*"], exclude=["*.tiff"])) == ["deep/Ảnh số 1.webp"]
    assert names(list_images(str(folder), limit=2)) == ["a.PNG", "b.jpg"]
    with pytest.raises(SourceError, match="left after --include and --exclude"):
        list_images(str(folder), include=["*.gif"])


@pytest.mark.parametrize("kind", ["csv", "parquet", "txt"])
def test_a_manifest_lists_what_it_names_in_its_order(folder: Path, kind: str) -> None:
    entries = ["in/b.jpg", str(folder / "a.PNG"), "in/notes.txt", "in/gone.jpg", "in/b.jpg"]
    manifest = folder.parent / f"list.{kind}"
    table = pd.DataFrame({"id": range(len(entries)), "Image": entries})
    if kind == "csv":
        table.to_csv(manifest, index=False)
    elif kind == "parquet":
        table.to_parquet(manifest)
    else:
        manifest.write_text("# images\n" + "\n".join(entries) + "\n\n")
    listing = list_images(str(manifest))
    assert [image.uri for image in listing.images] == [
        str(folder / name) for name in ("b.jpg", "a.PNG", "notes.txt", "gone.jpg")
    ]
    assert [image.size for image in listing.images] == [len(picture(1)), len(picture(1)), 4, 0]
    assert listing.passed_over == {}


def test_manifests_that_cannot_be_read(folder: Path) -> None:
    manifest = folder / "list.csv"
    manifest.write_text("only\nb.jpg\n")
    assert names(list_images(str(manifest))) == ["b.jpg"], "one column needs no name"
    manifest.write_text("a,b\nb.jpg,1\n")
    with pytest.raises(SourceError, match=r"has no column of images.*it has: a, b"):
        list_images(str(manifest))
    manifest.write_text("image\nhttps://example.com/a.jpg\n")
    with pytest.raises(SourceError, match="Download it first"):
        list_images(str(manifest))
    manifest.write_text("image\n")
    with pytest.raises(SourceError, match="No image in"):
        list_images(str(manifest))
    (folder / "list.parquet").write_bytes(b"not parquet")
    with pytest.raises(SourceError, match=r"list\.parquet"):
        list_images(str(folder / "list.parquet"))
    with pytest.raises(SourceError, match=r"There is no .*none.csv. Check the path."):
        list_images(str(folder / "none.csv"))


def test_sources_that_hold_nothing(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SourceError, match="it is empty"):
        list_images(str(folder / "empty"))
    with pytest.raises(SourceError, match=r"There is no .*nowhere. Check the path."):
        list_images(str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="Nothing matches"):
        list_images(str(tmp_path / "*.gif"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("text")
    with pytest.raises(SourceError, match=r"passed over 1 \.md"):
        list_images(str(tmp_path / "texts"))


def test_links_are_followed_once(folder: Path) -> None:
    """A link to a folder lists its images; one that leads back up must not list for ever."""
    (folder / "link").symlink_to(folder / "deep")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "dangling").symlink_to(folder / "nothing")
    listed = names(list_images(str(folder)))
    assert "link/er/c.tiff" in listed
    assert len(listed) < 50


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


def test_s3_is_listed_like_a_folder(prefix: str) -> None:
    listing = list_images(prefix)
    assert names(listing) == ["b.jpg", "deep/a.png", "no-extension"]
    assert listing.passed_over == {".txt": 1}
    first = listing.images[0]
    assert (first.uri, first.size) == (f"{prefix}/b.jpg", len(picture(1)))
    assert first.etag and '"' not in first.etag
    assert first.modified is not None and first.modified.tzinfo is not None
    assert names(list_images(f"{prefix}/")) == names(listing)
    assert names(list_images(f"{prefix}/**/*.png")) == ["deep/a.png"]
    assert [image.uri for image in list_images(f"{prefix}/b.jpg").images] == [f"{prefix}/b.jpg"]


def test_a_manifest_may_name_s3(prefix: str, tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{prefix}/deep/a.png\n{prefix}/gone.jpg\n")
    there, gone = list_images(str(manifest)).images
    assert (there.size, bool(there.etag)) == (len(picture(1)), True)
    assert (gone.uri, gone.size, gone.etag) == (f"{prefix}/gone.jpg", 0, None)


def test_s3_that_cannot_be_listed(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="There is no s3://nobody-has-it/x: check the bucket 'nobody-has-it'"):
        list_images("s3://nobody-has-it/x")
    with pytest.raises(SourceError, match="it is empty"):
        list_images(f"{prefix}/nothing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore would try for seconds
    forget_s3_connections()
    with pytest.raises(SourceError, match=r"Cannot reach http://127.0.0.1:9 .* Check AWS_ENDPOINT_URL"):
        list_images(prefix)
