"""Paths that no file can have, links that lead elsewhere, texts that never end: one row or one line each."""

import os
from pathlib import Path

import pytest
from PIL import Image

from config.job import text_or_file
from config.user_files import MOST_BYTES
from tasks.errors import ImageError, SchemaError, SourceError
from tasks.listing import Listing, list_images
from tasks.schemas.loading import load_schema
from tasks.storage.reading import read_source
from tests.golden import saved
from tests.runs import end, start

PICTURE = saved(Image.new("RGB", (4, 4)), "PNG")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        (folder / name).write_bytes(PICTURE)
    return folder


def readable(listing: Listing) -> dict[str, bool]:
    """For each image whether it can be read; if not, an ImageError says so, and nothing else is raised."""
    found = {}
    for source in listing.images:
        try:
            found[source.name] = read_source(source, most_bytes=1000) == PICTURE
        except ImageError:
            found[source.name] = False
    return found


def test_a_path_longer_than_the_system_takes_is_one_row(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in folders, made step by step, reach where no path does; the files beside them are listed."""
    monkeypatch.chdir(photos)
    step = "d" * 200
    for _ in range(25):
        Path(step).mkdir()
        os.chdir(step)
    Path("deep.png").write_bytes(PICTURE)
    os.chdir(photos)
    found = readable(list_images(str(photos)))
    assert list(found.values()) == [True, False, True]
    assert list(found)[1].startswith(step)


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "y/" * 3000 + "q.png", "nul\0.png", "nul\0", "#\0"])
@pytest.mark.parametrize("manifest", ["list.txt", "list.csv"])
def test_a_manifest_with_an_impossible_path_has_one_row_more(photos: Path, manifest: str, name: str) -> None:
    (photos / manifest).write_text(
        f"image\na.png\n{name}\nz.png\n" if manifest.endswith("csv") else f"a.png\n{name}\nz.png"
    )
    found = readable(list_images(str(photos / manifest)))
    assert found["a.png"] and found["z.png"]
    assert [name for name, good in found.items() if not good] == ([] if name == "#\0" and "txt" in manifest else [name])


def test_a_manifest_names_files_as_the_disk_does(photos: Path) -> None:
    (photos / "z.png").rename(photos / "caf\udce9.png")
    (photos / "list.txt").write_bytes(b"a.png\ncaf\xe9.png\n")
    assert readable(list_images(str(photos / "list.txt"))) == {"a.png": True, "caf\udce9.png": True}


@pytest.mark.parametrize("source", ["/x" * 3000, "/x" * 3000 + "/*.png", "a\0b", "x" * 5000 + ".txt"])
def test_a_source_that_cannot_be_is_one_line(source: str) -> None:
    with pytest.raises(SourceError) as caught:
        list_images(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_manifest_of_a_terabyte_is_refused_unread(photos: Path) -> None:
    with (photos / "list.txt").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(SourceError, match="Split it"):
        list_images(str(photos / "list.txt"))


def test_a_link_that_leads_out_of_the_source_is_passed_over_and_counted(photos: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (secret / "deep").mkdir(parents=True)
    for name in ("s.png", "deep/t.png"):
        (secret / name).write_bytes(PICTURE)
    (photos / "inside").mkdir()
    (photos / "inside" / "b.png").write_bytes(PICTURE)
    (photos / "good.png").symlink_to("a.png")
    (photos / "again").symlink_to("inside")
    (photos / "out.png").symlink_to(secret / "s.png")
    (photos / "out").symlink_to(secret)
    (photos / "round").symlink_to("../secret/deep/../deep")
    (photos / "inside" / "up.png").symlink_to("../../secret/s.png")
    (photos / "inside" / "chain.png").symlink_to("../out.png")
    expected = ["a.png", "again/b.png", "good.png", "inside/b.png", "z.png"]
    listing = list_images(str(photos))
    assert [image.name for image in listing.images] == expected
    assert listing.passed_over == {"links that lead out of it": 7}
    for pattern in ("**/*.png", "*/*.png", "*.png"):
        assert {image.name for image in list_images(f"{photos}/{pattern}").images} <= set(expected)


def test_a_link_that_the_user_names_is_followed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "one.png").symlink_to(photos / "a.png")
    (tmp_path / "list.txt").write_text("one.png\n")
    for source, names in (("link", ["a.png", "z.png"]), ("link/*.png", ["a.png", "z.png"]), ("one.png", ["one.png"])):
        assert [image.name for image in list_images(str(tmp_path / source)).images] == names
    assert readable(list_images(str(tmp_path / "list.txt"))) == {"one.png": True}


def test_a_folder_of_nothing_but_links_out_says_so(photos: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(photos / "a.png")
    with pytest.raises(SourceError, match="passed over 1 links that lead out of it"):
        list_images(str(links))


def test_a_file_that_grew_is_not_read_to_its_end(photos: Path) -> None:
    (source,) = list_images(str(photos / "a.png")).images
    with (photos / "a.png").open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(ImageError) as caught:
        read_source(source, most_bytes=1000)
    assert caught.value.code == "too_large"


def test_a_text_that_is_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for name in ("pipe.json", "zero.json", "huge.json", ".", "nothing.json", "nul\0.json"):
        with pytest.raises(ValueError, match="cannot be read") as caught:
            text_or_file(f"@{tmp_path / name}")
        assert "\n" not in str(caught.value)
        if name.endswith(".json"):
            with pytest.raises(SchemaError):
                load_schema(str(tmp_path / name))


def test_a_job_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.yaml")
    ended = end(start("run", tmp_path, "--output", tmp_path / "out", "--job", tmp_path / "job.yaml"))
    assert ended.status == 2
    assert ended.err.strip().endswith("it is no file but a folder, a pipe or a device.")
    ended = end(start("run", tmp_path, "--output", tmp_path / "out", "--prompt", "@/dev/zero"))
    assert ended.status == 2
    assert len(ended.err.strip().splitlines()) == 1
