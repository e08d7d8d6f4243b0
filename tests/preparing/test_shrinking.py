"""Shrinking with libvips: the same picture as Pillow's, and nothing taken that Pillow would refuse."""

import io
import random
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image, ImageCms, ImageDraw, ImageFilter

from tasks.errors import ImageError
from tasks.preparing import planned_size, prepare_image
from tasks.preparing.containers.container import Container
from tasks.preparing.headers import read_container
from tasks.preparing.pool import Child
from tasks.preparing.vips import is_plain, shrunk
from tasks.types import ImageRules
from tests.golden import DISPLAY_P3, saved
from tests.image_writers import exif_block

SMALL = ImageRules(max_edge=270, quality=95, model_edge=2576, model_tokens=4784)
SIZE = (1200, 800)  # where decoders that shrink by two need not round: the same pixels are compared
ACROSS = (270, 180)  # by 4.4, which a JPEG decoder does not reach alone (tests/preparing/test_photos.py)


@cache
def picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """Soft colours under lines of small text: what suffers from a wrong shift, colour or filter."""
    image = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", [image, image.transpose(Image.Transpose.ROTATE_180), image.filter(ImageFilter.CONTOUR)])
    draw = ImageDraw.Draw(image)
    for line in range(0, size[1], 40):
        draw.text((line % 90, line), f"{line} TOTAL 12.80 EUR  thank you for shopping " * 3, "black", font_size=24)
    return image.convert(mode)


def damaged(data: bytes) -> bytes:
    """The file without a stretch of its middle."""
    return data[: len(data) // 2] + data[len(data) // 2 + 500 :]


def shrink(data: bytes) -> tuple[Container, Image.Image | None]:
    """The file as the child sees it, and what libvips makes of it."""
    source_format = "PNG" if data.startswith(b"\x89PNG") else "JPEG"
    container = read_container(source_format, data, sys.maxsize)
    size = container.width, container.height
    if not is_plain(container, source_format):
        return container, None
    return container, shrunk(data, source_format, size, planned_size(*size, SMALL))


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean distance of two pictures' channels, in steps of 255."""
    left, right = (numpy.asarray(image.convert("RGB"), dtype=numpy.int16) for image in (one, other))
    return float(numpy.abs(left - right).mean())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(picture(), "JPEG", quality=90), id="baseline"),
        pytest.param(saved(picture(), "JPEG", quality=90, progressive=True), id="progressive"),
        pytest.param(saved(picture(), "JPEG", quality=90, subsampling=0, restart_marker_blocks=7), id="4:4:4-restarts"),
        pytest.param(saved(picture("L"), "JPEG", quality=90), id="grey"),
        pytest.param(saved(picture(), "JPEG", keep_rgb=True), id="stored-as-rgb"),
        pytest.param(
            saved(picture(), "JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
            id="srgb-profile",
        ),
        pytest.param(saved(picture(), "PNG"), id="png"),
        pytest.param(saved(picture("L"), "PNG"), id="png-grey"),
    ],
)
def test_a_plain_image_looks_as_pillow_would_shrink_it(data: bytes) -> None:
    _, small = shrink(data)
    assert small is not None
    assert small.size == ACROSS
    full = Image.open(io.BytesIO(data))
    assert small.mode == full.mode
    assert difference(small, full.resize(ACROSS, Image.Resampling.LANCZOS)) < 2
    nearest = difference(full.resize(ACROSS, Image.Resampling.NEAREST), full.resize(ACROSS, Image.Resampling.LANCZOS))
    assert nearest > 5  # so that the limit above tells a bad filter from a good one


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(picture("CMYK"), "JPEG"), id="cmyk"),
        pytest.param(saved(picture(), "JPEG", icc_profile=DISPLAY_P3), id="wide-colours"),
        pytest.param(saved(picture("RGBA"), "PNG"), id="alpha"),
        pytest.param(saved(picture("P"), "PNG"), id="palette"),
        pytest.param(saved(picture("1"), "PNG"), id="one-bit"),
        pytest.param(saved(Image.new("I;16", SIZE, 40_000), "PNG"), id="16-bit"),
        pytest.param(saved(picture(), "JPEG")[:-30_000], id="cut"),
        pytest.param(saved(picture(), "PNG", save_all=True, append_images=[picture("RGB", ACROSS)]), id="animated"),
    ],
)
def test_anything_else_is_left_to_pillow(data: bytes) -> None:
    assert shrink(data)[1] is None


def test_a_jpeg_of_which_a_part_is_lost_is_refused_where_pillow_would_not_say_so() -> None:
    data = damaged(saved(picture(), "JPEG", restart_marker_blocks=7))
    Image.open(io.BytesIO(data)).load()
    with pytest.raises(ImageError, match="damaged") as caught:
        shrink(data)
    assert caught.value.code == "damaged"


def test_what_libvips_takes_pillow_takes_too_and_shows_alike() -> None:
    """Damage in a thousand places; without the check of the end, libvips fills up what is missing with grey."""
    chance = random.Random(20)
    whole = [
        saved(picture("RGB", (603, 401)), "JPEG", quality=80),
        saved(picture("RGB", (603, 401)), "JPEG", quality=80, progressive=True),
        saved(picture("L", (603, 401)), "JPEG", quality=80, restart_marker_blocks=9),
        saved(picture("L", (603, 401)), "PNG"),
    ]
    taken = refused = 0
    for _ in range(1000):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.choice((0, 1, 1, 3))):
            data[chance.randrange(2, len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data = data[: chance.randrange(len(data) // 2, len(data))]
        try:
            container, small = shrink(bytes(data))
        except ImageError:  # by the parent before any decoder is asked, or a part is lost
            refused += 1
            continue
        if small is None:
            refused += 1
            continue
        taken += 1
        full = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        assert full.size == (container.width, container.height)
        assert difference(small, full.resize(small.size, Image.Resampling.LANCZOS)) < 4
    assert taken > 300
    assert refused > 300


@pytest.mark.parametrize("edge", [300, 270])  # by four, and by other than a power of two
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_sent_upright_without_its_metadata(orientation: int, edge: int) -> None:
    corners = [(200, 30, 30), (30, 160, 30), (30, 30, 200), (220, 220, 40)]
    upright = Image.new("RGB", SIZE)
    for index, colour in enumerate(corners):
        upright.paste(colour, (index % 2 * 600, index // 2 * 400, SIZE[0], SIZE[1]))
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # members of Image.Transpose
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    data = saved(stored, "JPEG", quality=95, exif=b"Exif\0\0" + exif_block(orientation), comment=b"SecretCam")
    assert shrink(data)[1] is not None
    (page,) = prepare_image(data, replace(SMALL, max_edge=edge))
    sent = Image.open(io.BytesIO(page.data))
    assert (page.source_width, page.source_height, sent.size) == (*SIZE, (edge, edge * 2 // 3))
    seen: list[Any] = [sent.getpixel((x, y)) for y in (50, 130) for x in (75, 225)]
    for colour, expected in zip(seen, corners, strict=True):
        assert colour == pytest.approx(expected, abs=8)
    assert not sent.getexif()
    assert not {"icc_profile", "comment", "exif"} & set(sent.info)
    assert b"SecretCam" not in page.data


def test_a_decoder_loads_libvips_when_the_first_such_image_comes() -> None:
    """What it never needs does not make the first image wait."""
    child = Child()
    try:
        rules = {name: getattr(SMALL, name) for name in ImageRules.__slots__}
        maps = Path(f"/proc/{child._process.pid}/maps")
        child.request({"format": "BMP", "rules": rules}, saved(picture(), "BMP"), 10)
        assert "libvips" not in maps.read_text()
        answer = child.request({"format": "JPEG", "rules": rules}, saved(picture(), "JPEG"), 10)
        assert "libvips" in maps.read_text()
        assert (answer.head["pages"][0]["width"], answer.head["pages"][0]["height"]) == ACROSS
    finally:
        child.end()
