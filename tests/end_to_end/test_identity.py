"""An image has one name, and a row's facts are those of the bytes that were asked about."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import analyze_images
from tasks.listing import list_images
from tasks.simulator import Simulator
from tasks.storage.reading import SourceUnavailable, file_etag, read_whole
from tests.runs import draw, forget_s3_connections, picture, rows
from tests.s3 import S3Server


def swapped(path: Path, data: bytes) -> None:
    """Other bytes of the same size, and the old time of writing, as a program that hides its tracks would leave."""
    status = path.stat()
    assert len(data) == status.st_size
    while path.stat().st_ctime_ns == status.st_ctime_ns:  # the clock of a file system may go on in steps of 4 ms
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def alike(size: int = 900) -> tuple[bytes, bytes]:
    """Two pictures of one size: bytes behind the end of a JPEG are nothing."""
    one, other = picture(1), picture(2)
    return one.ljust(size, b"\0"), other.ljust(size, b"\0")


def test_other_bytes_of_the_same_size_and_time_are_another_state(tmp_path: Path) -> None:
    one, other = alike()
    path = tmp_path / "a.jpg"
    path.write_bytes(one)
    (before,) = list_images(str(tmp_path)).images
    swapped(path, other)
    (after,) = list_images(str(tmp_path)).images
    assert (before.size, before.modified) == (after.size, after.modified)
    assert before.etag != after.etag
    (again,) = list_images(str(tmp_path)).images
    assert again == after


def test_another_file_under_the_same_name_is_another_state(tmp_path: Path) -> None:
    """Renamed over it, with size, time of writing and even content as before."""
    first, second = tmp_path / "a.jpg", tmp_path / "new"
    for path in (first, second):
        path.write_bytes(picture(1))
        os.utime(path, ns=(10**18, 10**18))
    before = file_etag(first.stat())
    second.replace(first)
    assert file_etag(first.stat()) != before


def test_a_file_replaced_after_it_was_listed_is_what_was_read(tmp_path: Path) -> None:
    one, other = alike()
    path = tmp_path / "a.jpg"
    path.write_bytes(one)
    (listed,) = list_images(str(tmp_path)).images
    assert read_whole(listed, most_bytes=10_000) == (listed, one)
    swapped(path, other)
    read, data = read_whole(listed, most_bytes=10_000)
    assert (data, read.uri, read.etag) == (other, listed.uri, file_etag(path.stat()))
    assert read.etag != listed.etag


def test_a_file_that_changes_all_the_time_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(picture(1))
    (listed,) = list_images(str(tmp_path)).images
    stat = os.fstat
    numbers = iter(range(100))

    def moving(handle: int) -> os.stat_result:
        os.utime(path, ns=(next(numbers), next(numbers)))
        return stat(handle)

    monkeypatch.setattr("tasks.storage.reading.os.fstat", moving)
    with pytest.raises(SourceUnavailable, match="changes while it is read"):
        read_whole(listed, most_bytes=10_000)


@pytest.mark.usefixtures("prefect_server")
def test_a_run_asks_about_the_new_bytes_and_the_next_one_skips_them(simulator: Simulator, tmp_path: Path) -> None:
    one, other = alike()
    images = draw(tmp_path / "images", 2, start=5)
    path = images / "a.jpg"
    path.write_bytes(one)
    analyze_images(str(images), str(tmp_path / "out"))
    swapped(path, other)
    second = analyze_images(str(images), str(tmp_path / "out"))
    assert (second["calls"], second["cached"], simulator.ledger().requests) == (1, 2, 4)
    third = analyze_images(str(images), str(tmp_path / "out"))
    assert (third["calls"], third["cached"]) == (0, 3)
    table = rows(third).set_index("name")
    assert table.loc["a.jpg", "source_etag"] == file_etag(path.stat())


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[S3Server]:
    forget_s3_connections()
    yield s3_server
    forget_s3_connections()


def test_on_s3_the_bytes_belong_to_the_etag_of_the_row(bucket: S3Server, tmp_path: Path) -> None:
    one, other = alike()
    client, key = bucket.client(), f"{tmp_path.name}/a.jpg"
    client.put_object(Bucket=bucket.bucket, Key=key, Body=one)
    (listed,) = list_images(f"s3://{bucket.bucket}/{tmp_path.name}").images
    assert read_whole(listed, most_bytes=10_000) == (listed, one)
    etag = client.put_object(Bucket=bucket.bucket, Key=key, Body=other)["ETag"].strip('"')
    read, data = read_whole(listed, most_bytes=10_000)
    assert (data, read.etag, read.size) == (other, etag, len(other))
    assert (
        read.modified is not None
        and listed.modified is not None
        and read.modified >= listed.modified.replace(microsecond=0)
    )


@pytest.mark.parametrize(
    "typed", ["../photos", ".", "../photos/", "//{0}", "{0}/x/..", "../photos/*.jpg", "./p000.jpg"]
)
def test_an_image_has_one_name_however_the_source_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    photos = draw(tmp_path / "photos", 1)
    (photos / "x").mkdir()
    monkeypatch.chdir(photos)
    (image,) = list_images(typed.format(photos)).images
    assert image.uri == f"{photos}/p000.jpg"


def test_a_manifest_names_an_image_once_however_it_spells_it(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos", 1)
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"photos/p000.jpg\n./photos/../photos/p000.jpg\n{photos}//p000.jpg\n")
    assert [image.uri for image in list_images(str(manifest)).images] == [f"{photos}/p000.jpg"]


def test_links_keep_the_name_that_was_typed_and_two_dots_go_where_they_lead(tmp_path: Path) -> None:
    photos = draw(tmp_path / "volume/photos", 1)
    link = tmp_path / "current"
    link.symlink_to(photos)
    (image,) = list_images(str(link)).images
    assert image.uri == f"{link}/p000.jpg"
    (image,) = list_images(f"{link}/../photos").images
    assert image.uri == f"{photos}/p000.jpg", "not tmp_path/photos, which is not there"
