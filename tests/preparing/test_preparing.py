"""Preparing: sizes, limits, what is left as it is, and a decoder that cannot take the run down."""

import io
import random
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tasks.errors import ImageError
from tasks.preparing import image_header, is_image_name, planned_size, prepare_image, sniff_format
from tasks.preparing.containers.container import is_srgb
from tasks.types import ImageRules
from tests.golden import ADOBE_RGB, CORNERS, DISPLAY_P3, golden_files, saved, target
from tests.image_writers import exif_block
from tests.runs import examples

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784)
DETECTION = ImageRules(max_edge=1024, quality=85, model_edge=2576, model_tokens=4784)
CLASSIFICATION = ImageRules(max_edge=512, quality=75, model_edge=1568, model_tokens=1568)


def code_of(data: bytes, rules: ImageRules) -> str:
    with pytest.raises(ImageError) as caught:
        prepare_image(data, rules)
    return caught.value.code


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(width).randbytes(3 * width * height))


# Sizes


@pytest.mark.parametrize(
    ("source", "rules", "expected"),
    [
        ((640, 480), OCR, (640, 480)),
        ((4032, 3024), OCR, (2048, 1536)),
        ((4032, 3024), DETECTION, (1024, 768)),
        ((3024, 4032), CLASSIFICATION, (384, 512)),
        # What the model would not see is not sent: the documentation's own examples of the two tiers.
        ((1920, 1080), replace(OCR, model_edge=1568, model_tokens=1568), (1456, 819)),
        ((4032, 3024), replace(OCR, max_edge=8000), (2212, 1659)),
        ((3840, 2160), replace(OCR, max_edge=8000), (2576, 1449)),
        ((20_000, 20), OCR, (2048, 2)),
        ((1, 20_000), OCR, (1, 2048)),
    ],
)
def test_the_planned_size(source: tuple[int, int], rules: ImageRules, expected: tuple[int, int]) -> None:
    assert planned_size(*source, rules) == expected


@given(
    width=st.integers(1, 40_000),
    height=st.integers(1, 40_000),
    edge=st.integers(28, 20_000),
    tier=st.sampled_from([(1568, 1568), (2576, 4784), (100_000, 10_000_000)]),
)
def test_a_planned_size_keeps_every_limit_and_the_shape(
    width: int, height: int, edge: int, tier: tuple[int, int]
) -> None:
    rules = ImageRules(max_edge=edge, quality=85, model_edge=tier[0], model_tokens=tier[1])
    sent = planned_size(width, height, rules)
    assert 1 <= sent[0] <= width
    assert 1 <= sent[1] <= height
    assert max(sent) <= min(edge, 8000, tier[0])
    assert -(-sent[0] // 28) * -(-sent[1] // 28) <= tier[1]
    assert planned_size(*sent, rules) == sent
    scale = max(sent) / max(width, height)
    assert sent[0] == pytest.approx(width * scale, abs=1)
    assert sent[1] == pytest.approx(height * scale, abs=1)


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"]),
    file_format=st.sampled_from(["TIFF", "PNG", "JPEG", "WEBP", "BMP", "GIF", "JPEG2000", "PPM"]),
    edge=st.integers(28, 320),
)
@settings(max_examples=examples(150))
def test_whatever_pillow_writes_becomes_a_request(
    width: int, height: int, mode: str, file_format: str, edge: int
) -> None:
    try:
        data = saved(Image.new(mode, (width, height)), file_format)
    except (OSError, ValueError, KeyError):
        return  # a mode this format does not hold
    rules = replace(CLASSIFICATION, max_edge=edge, max_base64_bytes=40_000)
    (page,) = prepare_image(data, rules)
    image = Image.open(io.BytesIO(page.data))
    image.load()
    assert image.size == (page.width, page.height) == planned_size(width, height, rules, file_format)
    assert (page.source_width, page.source_height) == (width, height)
    assert len(page.data) <= 30_000
    assert page.sha256 == sha256(page.data).hexdigest()


@pytest.mark.parametrize("size", [(1001, 1400), (1030, 1402), (1024, 1024)])
@pytest.mark.parametrize("resolutions", [1, 2, 6])
def test_a_jpeg_2000_is_decoded_small_only_as_far_as_it_can_be(size: tuple[int, int], resolutions: int) -> None:
    data = saved(target(size=size), "JPEG2000", num_resolutions=resolutions)
    (page,) = prepare_image(data, replace(CLASSIFICATION, max_edge=120))
    sent = Image.open(io.BytesIO(page.data)).convert("RGB")
    assert sent.size == planned_size(*size, replace(CLASSIFICATION, max_edge=120))
    for at, corner in zip(((20, 20), (70, 20), (20, 100), (70, 100)), CORNERS, strict=True):
        assert sent.getpixel(at) == pytest.approx(corner, abs=12)


def test_a_point_is_mapped_back_to_within_a_pixel() -> None:
    """On sides that no power of two divides, where draft decoding rounds, and through a turn."""
    size, square = (4033, 3027), 60
    for orientation, expected in ((1, (3100, 2300)), (6, (3027 - 2300, 3100))):
        picture = Image.new("L", size, 0)
        picture.paste(255, (3100 - square, 2300 - square, 3100 + square, 2300 + square))
        (page,) = prepare_image(saved(picture, "JPEG", exif=b"Exif\0\0" + exif_block(orientation)), CLASSIFICATION)
        sent = Image.open(io.BytesIO(page.data)).convert("L")
        weight = x_sum = y_sum = 0.0
        for index, value in enumerate(sent.tobytes()):
            if value > 20:
                weight += value
                x_sum += value * (index % sent.width + 0.5)
                y_sum += value * (index // sent.width + 0.5)
        x = (x_sum / weight - page.offset_x) / page.scale_x
        y = (y_sum / weight - page.offset_y) / page.scale_y
        assert (x, y) == pytest.approx(expected, abs=1)


# Limits


def test_quality_and_then_size_give_way_to_the_byte_limit_and_the_note_says_so() -> None:
    picture = saved(noise(600, 400), "BMP")
    (full,) = prepare_image(picture, OCR)
    (less,) = prepare_image(picture, replace(OCR, max_base64_bytes=len(full.data)))
    (least,) = prepare_image(picture, replace(OCR, max_base64_bytes=20_000))
    assert full.note is None
    assert (less.width, less.note) == (600, "JPEG quality 85 to fit the byte limit")
    assert len(least.data) <= 15_000
    assert least.width < 600
    assert "shrunk to" in (least.note or "")
    assert least.scale_x == least.width / 600


def test_a_file_that_fits_but_for_its_bytes_is_encoded_again() -> None:
    heavy = saved(noise(500, 500), "PNG")
    assert prepare_image(heavy, OCR)[0].media_type == "image/png"
    (page,) = prepare_image(heavy, replace(OCR, max_base64_bytes=600_000))
    assert page.media_type == "image/jpeg"
    assert len(page.data) <= 450_000


def test_limits_are_checked_before_anything_is_decoded() -> None:
    started = time.thread_time()
    assert code_of(saved(target(size=(200, 100)), "JPEG"), replace(OCR, max_pixels=19_999)) == "too_many_pixels"
    assert code_of(saved(target(size=(200, 100)), "TIFF"), replace(OCR, max_pixels=19_999)) == "too_many_pixels"
    assert code_of(bytes(1001), replace(OCR, max_source_bytes=1000)) == "too_large"
    assert code_of(golden_files()["bomb.png"].data, OCR) == "too_many_pixels"
    assert time.thread_time() - started < 1


def test_a_large_page_behind_a_small_one_is_refused() -> None:
    pages = saved(target(), "TIFF", save_all=True, append_images=[Image.new("L", (400, 400))])
    assert code_of(pages, replace(OCR, max_pixels=100_000)) == "too_many_pixels"


def test_pages_beyond_the_limit_are_left_out_and_named() -> None:
    document = golden_files()["three-pages.tif"].data
    pages = prepare_image(document, replace(OCR, max_pages=2))
    assert [page.page for page in pages] == [1, 2]
    assert [page.note for page in pages] == [None, "page 2 of 3; later pages were left out"]


# What is left as it is


def test_srgb_is_known_by_its_numbers() -> None:
    assert is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert not is_srgb(ADOBE_RGB)
    assert not is_srgb(DISPLAY_P3)
    assert not is_srgb(b"")
    assert not is_srgb(bytes(4000))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_an_srgb_profile_is_dropped_without_touching_a_pixel(file_format: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(target(), file_format, icc_profile=profile)
    (page,) = prepare_image(data, OCR)
    assert len(page.data) < len(data) - len(profile) // 2
    assert Image.open(io.BytesIO(page.data)).tobytes() == Image.open(io.BytesIO(data)).tobytes()


def test_what_fits_starts_no_decoder_and_does_not_even_load_one() -> None:
    script = (
        "import sys; from tasks.preparing import *; from tasks.types import ImageRules\n"
        "pages = prepare_image(sys.stdin.buffer.read(), ImageRules(2048, 95, 2576, 4784))\n"
        "assert pages[0].width == 96\n"
        "assert not {'PIL', 'pyvips', 'prefect', 'multiprocessing'} & set(sys.modules)\n"
        "assert not open('/proc/self/task/%d/children' % __import__('os').getpid()).read()\n"
    )
    subprocess.run([sys.executable, "-c", script], input=saved(target(), "JPEG"), check=True)


# Formats and headers


def test_an_image_is_known_by_its_name_when_only_the_name_is_known() -> None:
    assert all(map(is_image_name, ["a.jpg", "B.JPEG", "c.d.Heic", "x y.TIF", "é.svgz", "new.jxl"]))
    assert not any(map(is_image_name, ["a.txt", "jpg", ".jpg", "a.jpg.json", "", "a.", "a.pdf"]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cmyk.tif", "TIFF"), ("drawing.svgz", "SVG"), ("picture.tga", "TGA"), ("icon.ico", "ICO"), ("text.jpg", None)],
)
def test_a_format_is_known_by_the_first_bytes(name: str, expected: str | None) -> None:
    assert sniff_format(golden_files()[name].data) == expected


def test_a_header_needs_only_the_beginning_of_a_file() -> None:
    photo = saved(noise(700, 500), "JPEG", quality=95, exif=b"Exif\0\0" + exif_block(6) + bytes(50_000))
    assert len(photo) > 300_000
    header = image_header(photo[:65_536])
    assert (header.format, header.width, header.height, header.pages) == ("JPEG", 500, 700, 1)
    with pytest.raises(ImageError) as caught:
        image_header(photo[:1000])
    assert caught.value.code == "truncated"


@given(
    name=st.sampled_from(sorted(name for name in golden_files() if not name.startswith(("bomb", "twelve", "blank")))),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
@settings(max_examples=examples(150))
def test_damaged_files_end_as_a_request_or_a_reason(name: str, cut: float, flips: list[tuple[float, int]]) -> None:
    data = bytearray(golden_files()[name].data)
    for place, value in flips:
        if data:
            data[int(place * len(data))] = value
    data = data[: int(len(data) * (1 - cut / 2))]
    try:
        pages = prepare_image(bytes(data), replace(CLASSIFICATION, max_pixels=20_000_000, seconds=10))
    except ImageError as error:
        outcome = error.code
    else:
        outcome = "ok"
        assert pages
        assert all(max(page.width, page.height) <= 512 for page in pages)
    assert outcome in (
        "ok",
        "empty",
        "not_an_image",
        "truncated",
        "damaged",
        "too_many_pixels",
        "unsupported",
        "unsafe",
    )
