"""Listing a bucket: page by page, in the order of paths, and with a reason where it cannot be done."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from flows.cli import terminal
from tasks.errors import SourceError
from tasks.listing import list_images
from tasks.listing.images import collect_sorted
from tasks.listing.objects import first_by_uri
from tasks.storage.s3 import _timestamp, s3_filesystem
from tasks.types import Source
from tests.listing import names
from tests.runs import forget_s3_connections, picture
from tests.s3 import S3Server


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


KEYS = some.lists(
    some.text("ab/.0", min_size=1, max_size=6).filter(lambda key: "/" not in (key[0], key[-1])), max_size=15
)


@given(KEYS, some.integers(1, 6), some.booleans())
def test_the_first_images_are_the_first_whatever_order_the_server_lists_in(
    keys: list[str], limit: int, by_folder: bool
) -> None:
    files = {key for key in keys if "//" not in key and not any(other.startswith(f"{key}/") for other in keys)}
    listed = sorted(files, key=lambda key: key.split("/")) if by_folder else sorted(files)
    sources = iter([Source(f"s3://b/{key}", key, 1) for key in listed])
    found = collect_sorted(first_by_uri(sources, "s3://b/", limit), "s3://b/", limit=limit)
    assert [image.name for image in found] == sorted(files)[:limit]


def test_s3_is_listed_page_by_page(many: str) -> None:
    told: list[int] = []
    images = list_images(many, progress=told.append).images
    assert [image.name for image in images] == [f"{n // 1000:05}/image-{n:07}.jpg" for n in range(2500)]
    assert told == [1000, 2000]
    assert images[2499].modified == datetime(2026, 11, 23, 0, 41, 39, tzinfo=UTC)
    assert len({image.etag for image in images}) == 2500
    assert list_images(many, exclude=["00000/*"], limit=600).images == images[1000:1600]


def test_s3_globs_mean_what_they_mean_to_fsspec(prefix: str) -> None:
    for pattern in (
        "*",
        "*.jpg",
        "**",
        "**/*",
        "**/*.png",
        "deep/*",
        "?.jpg",
        "[a-c].jpg",
        "[!b]*",
        "*/a.*",
        "d*/**",
        "*/",
    ):
        keys = s3_filesystem().glob(f"{prefix}/{pattern}", detail=True)
        files = [f"s3://{key}" for key, facts in keys.items() if facts["type"] == "file"]
        wanted = [uri for uri in files if not uri.endswith((".txt", ".hidden.jpg"))]
        if wanted:
            assert [image.uri for image in list_images(f"{prefix}/{pattern}").images] == wanted, pattern
        else:
            with pytest.raises(SourceError, match="Nothing matches"):
                list_images(f"{prefix}/{pattern}")
    with pytest.raises(SourceError, match="There is no s3://nobody-has-it"):
        list_images("s3://nobody-has-it/*.jpg")


def test_objects_without_an_extension_are_looked_into_many_at_once(
    prefix: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_server.client()
    place = prefix.removeprefix(f"s3://{s3_server.bucket}/")

    def put(name: str, body: bytes) -> None:
        client.put_object(Bucket=s3_server.bucket, Key=f"{place}/plain/{name}", Body=body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, [f"image{number:02}" for number in range(40)], [picture(1)] * 40))
    put("text", b"no image")
    put("empty", b"")
    put("folder/", b"")
    fs, under_way, most = s3_filesystem(), 0, 0
    read = fs._cat_file

    async def counted(*arguments: object, **options: object) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            content: bytes = await read(*arguments, **options)
        finally:
            under_way -= 1
        return content

    monkeypatch.setattr(fs, "_cat_file", counted)
    listing = list_images(f"{prefix}/plain")
    assert names(listing) == [f"image{number:02}" for number in range(40)]
    assert listing.passed_over == {"no extension": 2}
    assert 20 <= most <= 64


def test_s3_keys_sort_and_are_limited_like_paths(prefix: str, s3_server: S3Server) -> None:
    client = s3_server.client()
    place = prefix.removeprefix(f"s3://{s3_server.bucket}/")
    for name in ("a/1.jpg", "a/2.jpg", "a.jpg", "a-1.jpg", "a0.jpg", "b/c/1.jpg", "b.jpg", "é.jpg", "z.jpg"):
        client.put_object(Bucket=s3_server.bucket, Key=f"{place}/odd/{name}", Body=picture(1))
    found = names(list_images(f"{prefix}/odd"))
    assert len(found) == 9 and found == sorted(found)
    for limit in range(1, 10):
        assert names(list_images(f"{prefix}/odd", limit=limit)) == found[:limit]


def test_a_slow_listing_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(**options: bool) -> str:
        with terminal.Terminal(**options).listing() as progress:
            progress(1000)
            progress(412_000)
        return capsys.readouterr().out

    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    assert shown() == "", "where stdout is no terminal"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "412,000 images ..." in shown()
    assert shown(bars=False) == ""
    monkeypatch.setattr(terminal, "PATIENCE_S", 60.0)
    assert "images" not in shown(), "a listing that is done at once"


@pytest.mark.parametrize(
    "text", ["2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00+00:00", "Mon, 23 Nov 2026 12:00:00 GMT", 1795435200]
)
def test_a_time_is_read_in_every_form_that_s3_writes(text: object) -> None:
    assert _timestamp(text) == datetime(2026, 11, 23, 12, tzinfo=UTC)
