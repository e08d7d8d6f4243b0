"""Photos of phones: decoded at half, quarter or eighth size where that is nearly the size wanted, and not resampled."""

import io
from dataclasses import replace
from functools import cache

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tasks.billing.usage import image_tokens
from tasks.planning.estimating import Measured, sent_image_tokens
from tasks.preparing import planned_size, prepare_image
from tasks.preparing.colours import to_srgb
from tasks.preparing.prepare import jpeg_shrink
from tasks.types import ImageRules, PreparedImage
from tests.golden import DISPLAY_P3, saved
from tests.image_writers import exif_block

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784)
DETECTION = replace(OCR, max_edge=1024, quality=85)
CLASSIFICATION = replace(OCR, max_edge=512, quality=75)
MIRRORS = [None, None, 0, 3, 1, 5, 2, 6, 4]  # members of Image.Transpose that undo an EXIF orientation
SPOT = 30  # half a side


@cache
def photo(orientation: int = 1, size: tuple[int, int] = (4032, 3024), profile: bytes | None = None) -> bytes:
    """Upright a bright square around a known point, and small text, stored as a phone held that way does."""
    upright = Image.new("RGB", size, (20, 40, 30))
    x, y = spot(size)
    draw = ImageDraw.Draw(upright)
    draw.text((200, 200), "TOTAL 12.80 EUR  thank you for shopping", (230, 230, 230), font_size=60)
    draw.rectangle((x - SPOT, y - SPOT, x + SPOT - 1, y + SPOT - 1), "white")
    mirror = MIRRORS[orientation]
    stored = upright if mirror is None else upright.transpose(Image.Transpose(mirror))
    return saved(stored, "JPEG", quality=92, exif=b"Exif\0\0" + exif_block(orientation), icc_profile=profile)


def spot(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * 3 // 4, size[1] * 2 // 3


def seen_spot(page: PreparedImage) -> tuple[float, float]:
    """The middle of the bright square on what is sent, mapped back to the original."""
    light = numpy.asarray(Image.open(io.BytesIO(page.data)).convert("L"), dtype=float)
    light -= numpy.median(light)
    light[: light.shape[0] // 3, :] = 0  # the text
    light[light < 10] = 0  # what coding leaves around it
    down, across = numpy.indices(light.shape)
    x, y = ((axis + 0.5) * light for axis in (across, down))
    middle = x.sum() / light.sum(), y.sum() / light.sum()
    return (middle[0] - page.offset_x) / page.scale_x, (middle[1] - page.offset_y) / page.scale_y


@pytest.mark.parametrize(
    ("size", "rules", "shrink"),
    [
        ((4032, 3024), OCR, 2),
        ((4000, 3000), OCR, 2),
        ((3024, 4032), OCR, 2),
        ((4096, 3072), OCR, 2),
        ((4097, 3072), OCR, 1),  # half of it is a pixel more than the preset allows
        ((3972, 2979), OCR, 1),  # half of it is 3.03 % less than it allows
        ((8064, 6048), OCR, 4),  # 48 megapixels
        ((4032, 3024), DETECTION, 4),
        ((4032, 3024), CLASSIFICATION, 8),
        ((4032, 3024), replace(OCR, max_edge=400), 1),
        ((4032, 3024), replace(OCR, model_edge=1568, model_tokens=1568), 1),
        ((1000, 800), OCR, 1),
        ((20_000, 1), replace(OCR, max_edge=8000, model_edge=10_000), 1),
    ],
)
def test_by_what_a_jpeg_is_shrunk_while_it_is_decoded(size: tuple[int, int], rules: ImageRules, shrink: int) -> None:
    assert jpeg_shrink(*size, rules) == shrink
    decoded = -(-size[0] // shrink), -(-size[1] // shrink)
    assert planned_size(*size, rules, "JPEG") == (decoded if shrink > 1 else planned_size(*size, rules))
    assert planned_size(*size, rules, "PNG") == planned_size(*size, rules)


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    edge=st.integers(28, 8000),
    tier=st.sampled_from([(1568, 1568), (2576, 4784)]),
)
def test_it_is_within_the_rules_and_3_percent(width: int, height: int, edge: int, tier: tuple[int, int]) -> None:
    rules = ImageRules(max_edge=edge, quality=85, model_edge=tier[0], model_tokens=tier[1])
    sent, most = planned_size(width, height, rules, "JPEG"), planned_size(width, height, rules)
    assert max(sent) >= 0.97 * max(most)
    assert max(sent) <= min(edge, 8000, tier[0])
    assert sent[0] <= width
    assert sent[1] <= height
    assert -(-sent[0] // 28) * -(-sent[1] // 28) <= tier[1]


@pytest.mark.parametrize("profile", [None, DISPLAY_P3], ids=["srgb", "wide colours, as phones store them"])
def test_a_photo_is_decoded_at_half_and_no_pixel_is_resampled(profile: bytes | None) -> None:
    (page,) = prepare_image(photo(profile=profile), OCR)
    sent = Image.open(io.BytesIO(page.data)).convert("L")
    assert (page.width, page.height, sent.size) == (2016, 1512, (2016, 1512))
    assert (page.scale_x, page.scale_y, page.offset_x, page.offset_y, page.note) == (0.5, 0.5, 0, 0, None)
    half = Image.open(io.BytesIO(photo(profile=profile)))
    half.draft(None, (2016, 1512))
    expected = to_srgb(half, profile).convert("L")
    assert numpy.abs(numpy.asarray(expected, dtype=float) - numpy.asarray(sent, dtype=float)).mean() < 1
    assert not sent.getexif()
    assert not {"icc_profile", "exif"} & set(sent.info)
    assert b"SecretCam" not in page.data


@pytest.mark.parametrize("size", [(4032, 3024), (4033, 3027)], ids=["even", "odd"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_mapped_back_exactly_whichever_way_the_phone_was_held(orientation: int, size: tuple[int, int]) -> None:
    """The last column of an odd side is half a pixel; mirrored, it is the first one, and the picture begins later."""
    for rules, shrink in ((OCR, 2), (DETECTION, 4), (CLASSIFICATION, 8)):
        (page,) = prepare_image(photo(orientation, size), rules)
        assert (page.source_width, page.source_height) == size
        assert (page.scale_x, page.scale_y) == (1 / shrink, 1 / shrink)
        assert (page.width, page.height) == planned_size(*size, rules, "JPEG")
        assert seen_spot(page) == pytest.approx(spot(size), abs=0.1 * shrink)
        for side, scale, offset, sent in (
            (size[0], page.scale_x, page.offset_x, page.width),
            (size[1], page.scale_y, page.offset_y, page.height),
        ):
            assert 0 <= offset < 1
            assert offset + side * scale <= sent


def test_the_byte_limit_shrinks_a_photo_further_and_boxes_still_map_back() -> None:
    (page,) = prepare_image(photo(2, (4033, 3027)), replace(OCR, max_base64_bytes=24_000))
    assert len(page.data) <= 18_000
    assert page.width < 2017
    assert page.note
    assert seen_spot(page) == pytest.approx(spot((4033, 3027)), abs=1.5)


def test_an_estimate_counts_the_tokens_of_what_is_sent() -> None:
    (page,) = prepare_image(photo(), OCR)
    measured = Measured(4032, 3024, format="JPEG")
    assert sent_image_tokens([measured], OCR) == image_tokens(page.width, page.height) == 72 * 54
    assert sent_image_tokens([replace(measured, format="PNG")], OCR) == 74 * 55
