"""Manifests: what they name is listed in their order, and one that cannot be read says why."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import SourceError
from tasks.listing import list_images
from tests.listing import names
from tests.runs import draw, picture


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


def test_a_uri_of_a_local_file_is_its_path(folder: Path) -> None:
    (folder / "two words.jpg").write_bytes(b"x")
    uri = (folder / "two words.jpg").as_uri()
    (folder / "list.txt").write_text(f"{uri}\n")
    for source in (uri, str(folder / "list.txt"), (folder / "list.txt").as_uri()):
        assert [image.uri for image in list_images(source).images] == [str(folder / "two words.jpg")]


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


def test_a_manifest_may_name_s3(prefix: str, tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{prefix}/deep/a.png\n{prefix}/gone.jpg\n")
    there, gone = list_images(str(manifest)).images
    assert (there.size, bool(there.etag)) == (len(picture(1)), True)
    assert (gone.uri, gone.size, gone.etag) == (f"{prefix}/gone.jpg", 0, None)


def test_a_manifest_of_other_programs_may_hold_bytes(tmp_path: Path) -> None:
    """Parquet of Spark's, whose texts are marked as such nowhere; Python would write them as b'...'."""
    image = draw(tmp_path / "images", 1) / "p000.jpg"
    pd.DataFrame({"image": [os.fsencode(image)]}).to_parquet(tmp_path / "list.parquet")
    assert [one.uri for one in list_images(str(tmp_path / "list.parquet")).images] == [str(image)]
