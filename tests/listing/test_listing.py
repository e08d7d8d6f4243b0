"""Listing: what counts as an image, from a folder, a file, a glob, a manifest or S3."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from flows.cli import terminal
from tasks.errors import SourceError
from tasks.listing import Listing, list_images
from tasks.listing.images import CHUNK, collect, collect_sorted
from tasks.listing.kinds import Wanted
from tasks.listing.objects import first_by_uri
from tasks.storage.s3 import _timestamp, s3_filesystem
from tasks.types import Source
from tests.benchmark.listing import CREDENTIALS, served
from tests.runs import ROOT, forget_s3_connections, picture
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


def test_a_pipe_is_waited_for_nowhere(folder: Path) -> None:
    for name in ("pipe", "pipe.jpg", "list.txt", "list.csv"):
        os.mkfifo(folder / name)
    (folder / "link").symlink_to("pipe")
    (folder / "link.jpg").symlink_to("pipe")
    with_links = ["a.PNG", "b.jpg", "broken.jpg", "deep/er/c.tiff", "deep/Ảnh số 1.webp", "link.jpg", "no-extension"]
    assert names(list_images(str(folder))) == with_links, "a link may lead elsewhere when it is read"
    assert names(list_images(str(folder / "*.jpg"))) == ["b.jpg", "broken.jpg"]
    assert names(list_images(str(folder / "pipe"))) == ["pipe"], "named by itself: its row says why it cannot be read"
    for manifest in ("list.txt", "list.csv"):
        with pytest.raises(SourceError, match=f"{manifest} is a pipe, a socket or a device. A manifest"):
            list_images(str(folder / manifest))


AS_NOBODY = """
import os, sys
from tasks.errors import SourceError
from tasks.listing import list_images
import pyarrow.compute
if not os.getuid():
    os.setuid(65534)
for exclude in sys.argv[2:]:
    try:
        print(*sorted(image.name for image in list_images(sys.argv[1], exclude=exclude.split()).images))
    except SourceError as error:
        print(error)
"""


def test_what_may_not_be_read_is_a_row_or_an_error_with_a_way_around(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        for name in ("a.jpg", "secret", "no-image"):
            (folder / name).write_bytes(picture(1) if name != "no-image" else b"text")
        (folder / "secret").chmod(0)
        command = [sys.executable, "-c", AS_NOBODY, str(folder)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

        def listed(*exclude: str) -> list[str]:
            done = subprocess.run(
                [*command, *exclude], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            )
            return done.stdout.splitlines()

        assert listed("x", "secret") == ["a.jpg secret", "a.jpg"]
        (folder / "lost+found" / "deep").mkdir(parents=True)
        (folder / "lost+found").chmod(0)
        refused = f"No permission to read {folder}/lost+found. Check its owner and mode, or leave it out (--exclude)."
        assert listed("x", "lost+found", "lost+found/*", "lost*", "*/lost+found") == [
            refused,
            *["a.jpg secret"] * 3,
            refused,
        ]
    finally:
        (folder / "lost+found").chmod(0o755)
        shutil.rmtree(folder)


def test_what_is_excluded_is_not_looked_into(folder: Path) -> None:
    assert list_images(str(folder), exclude=["README"]).passed_over == {".txt": 1}
    assert names(list_images(str(folder), exclude=["deep/*"])) == ["a.PNG", "b.jpg", "broken.jpg", "no-extension"]
    assert "deep/er/c.tiff" in names(list_images(str(folder), exclude=["deep"])), (
        "a folder's name excludes no file in it"
    )
    assert "deep/er/c.tiff" not in names(list_images(str(folder), exclude=["de*"]))
    assert "deep/er/c.tiff" in names(list_images(str(folder), exclude=["deep/*.webp"]))


GLOBS = some.lists(some.text("ab/*?[]!", min_size=1, max_size=5), max_size=3)


@given(GLOBS, GLOBS, some.lists(some.text("ab/", min_size=1, max_size=6), min_size=1))
def test_a_folder_is_passed_over_only_where_nothing_in_it_could_be_wanted(
    include: list[str], exclude: list[str], paths: list[str]
) -> None:
    wanted = Wanted(include, exclude)
    for path in paths:
        for end, mark in enumerate(path):
            if mark == "/" and wanted.excludes_below(path[: end + 1]):
                assert not wanted(path)


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


def test_a_csv_of_one_column_may_have_no_header(folder: Path) -> None:
    manifest = folder / "list.csv"
    for text in ("b.jpg\na.PNG\n", "no-extension\na.PNG\n", "gone.jpg\nb.jpg\n", "path\nb.jpg\n", "only\nb.jpg\n"):
        manifest.write_text(text)
        header, *lines = text.split()
        expected = lines if header in ("path", "only") else [header, *lines]
        assert names(list_images(str(manifest))) == expected
    manifest.write_text("image\nNA\n\nnull\n")
    assert names(list_images(str(manifest))) == ["NA", "null"], "names, not values that are missing"


def test_a_manifest_at_home_names_what_lies_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    for kind, text in (("txt", "b.jpg\n"), ("csv", "image\nb.jpg\n")):
        (folder / f"list.{kind}").write_text(text)
        (image,) = list_images(f"~/list.{kind}").images
        assert (image.uri, image.size) == (str(folder / "b.jpg"), len(picture(1)))


def test_a_line_that_begins_with_a_hash_is_a_comment_unless_there_is_such_a_file(folder: Path) -> None:
    (folder / "#1.jpg").write_bytes(picture(1))
    lines = ["#1.jpg", "#2.jpg", "./#3.jpg", " # see https://example.com", f"# {'very ' * 100}long", "b.jpg"]
    (folder / "list.txt").write_text("\r\n".join(lines))
    assert [image.uri for image in list_images(str(folder / "list.txt")).images] == [
        str(folder / name) for name in ("#1.jpg", "#3.jpg", "b.jpg")
    ]


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


URIS = some.text(some.sampled_from("aZ/0.- é\udc80\U0001f600"), max_size=8).map("/in/{}".format)
TIMES = some.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=some.just(UTC))  # noqa: DTZ001
SOURCES = some.builds(
    Source,
    uri=URIS,
    name=URIS.map(lambda uri: uri[4:]),
    size=some.integers(0, 2**50),
    modified=some.none() | TIMES,
    etag=some.none() | some.text("0123-", min_size=1),
)


@given(some.lists(SOURCES, max_size=20), some.slices(20))
def test_columns_give_back_what_they_were_given(sources: list[Source], part: slice) -> None:
    images = collect(sources, "/in/")
    assert images == sources == list(images)
    assert images[part] == sources[part]
    assert images[part][::-2] == sources[part][::-2]
    assert [images[place] for place in range(-len(sources), len(sources))] == sources * 2
    assert images.total_bytes == sum(source.size for source in sources)
    assert collect_sorted(sources[:1] + sources, "/in/") == sorted(
        {source.uri: source for source in reversed(sources)}.values(), key=lambda source: source.uri
    )
    with pytest.raises(IndexError):
        images[len(sources)]


def test_columns_are_small_and_cut_in_chunks() -> None:
    when = datetime(2026, 11, 23, tzinfo=UTC)
    count = 3 * CHUNK + 7
    prefix = "s3://a-bucket/a/rather/long/prefix/"
    made = (
        Source(
            f"{prefix}2026/11/23/image-{number:010}.jpg", f"2026/11/23/image-{number:010}.jpg", number, when, "e" * 32
        )
        for number in range(count)
    )
    images = collect(made, prefix)
    assert images.nbytes / count < 120
    assert [image.size for image in images] == list(range(count))
    assert images.total_bytes == count * (count - 1) // 2
    places = [0, CHUNK - 1, CHUNK, 3 * CHUNK, count - 1]
    assert [image.size for image in images.pick(places)] == places
    assert [image.size for image in images[5::CHUNK]] == list(range(5, count, CHUNK))


def test_images_that_come_in_no_order_are_sorted_and_cut_in_chunks_again() -> None:
    count = 2 * CHUNK + 5
    made = [Source(f"/in/{number:06}", f"{number:06}", number) for number in range(count)]
    images = collect_sorted(reversed(made), "/in/")
    assert images == made
    assert images.total_bytes == count * (count - 1) // 2
    assert [image.size for image in images[CHUNK + 1 :: CHUNK]] == [CHUNK + 1, 2 * CHUNK + 1]
    first = collect_sorted(reversed(made), "/in/", limit=3)
    assert first == made[:3]
    assert first.nbytes < 300, "nothing is held of the others"


def test_names_sort_as_their_whole_paths_do(tmp_path: Path) -> None:
    odd = os.fsdecode(b"a/not-\xff-utf8.jpg")
    for name in ("a/b.jpg", "a.jpg", "a-1.jpg", "a b.jpg", "a0.jpg", "a/b/c.jpg", "a/b-c.jpg", "ä.jpg", "😀.jpg", odd):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(1))
    found = names(list_images(str(tmp_path)))
    assert len(found) == 10 and found == sorted(found)
    assert names(list_images(str(tmp_path / "**" / "*.jpg"))) == found
    for limit in range(1, 11):
        assert names(list_images(str(tmp_path), limit=limit)) == found[:limit]
        assert names(list_images(str(tmp_path / "**" / "*.jpg"), limit=limit)) == found[:limit]


def test_a_limit_ends_the_listing_early(folder: Path) -> None:
    (folder / "z").mkdir()
    (folder / "z" / "notes.md").write_text("text")
    assert ".md" in list_images(str(folder)).passed_over
    assert ".md" not in list_images(str(folder), limit=2).passed_over


def test_a_glob_that_finds_a_file_twice_lists_it_once(folder: Path) -> None:
    found = names(list_images(str(folder / "**" / "**")))
    assert found == sorted(set(found)) and "deep/er/c.tiff" in found


def test_listing_a_folder_waits_for_nothing_heavy(folder: Path) -> None:
    script = (
        "import sys\nfrom tasks.listing import list_images\nfrom tasks.recording.memory import leave_pandas_out\n"
        f"leave_pandas_out()\nprint(list_images({str(folder)!r}).total_bytes)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "pyarrow.dataset", "pyarrow.compute", "s3fs", "botocore"} & set(done.stdout.split())


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


@pytest.fixture
def many(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix of 2,500 keys at a server of pages."""
    with served(2500) as url:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        forget_s3_connections()
        yield "s3://pictures/2026"
    forget_s3_connections()


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
