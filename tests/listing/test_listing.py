"""Listing: what counts as an image, from a folder, a file, a glob, a manifest or S3."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.errors import SourceError
from tasks.listing import list_images
from tasks.listing.kinds import NameFilter
from tests.listing import names
from tests.runs import ROOT, picture


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
    wanted = NameFilter(include, exclude)
    for path in paths:
        for end, mark in enumerate(path):
            if mark == "/" and wanted.excludes_below(path[: end + 1]):
                assert not wanted(path)


def test_sources_that_hold_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="it is empty"):
        list_images(str(folder / "empty"))
    with pytest.raises(SourceError, match=r"There is no .*nowhere. Check the path."):
        list_images(str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)  # as a served run outside the clone: which folder was meant is not plain
    with pytest.raises(SourceError, match=f"There is no {re.escape(str(tmp_path))}/data/samples. Check the path."):
        list_images("data/samples")
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
        "import sys\nfrom tasks.listing import list_images\nfrom flows.cli.without_pandas import leave_pandas_out\n"
        f"leave_pandas_out()\nprint(list_images({str(folder)!r}).total_bytes)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "pyarrow.dataset", "pyarrow.compute", "s3fs", "botocore"} & set(done.stdout.split())
