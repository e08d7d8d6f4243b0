"""Damaged files that would fit: what can be told of their damage is told before they are sent."""

import io
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tasks.errors import ImageError
from tasks.preparing import prepare_image
from tasks.preparing.headers import known_format, read_container
from tasks.preparing.soundness import must_be_decoded
from tasks.types import ImageRules
from tests.golden import saved
from tests.runs import examples

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784)
HEADER = 700  # bytes at the start that hold tables
HOLE = 512
WRITTEN: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {"quality": 85}),
    "optimized jpeg": ("JPEG", {"quality": 85, "optimize": True}),
    "jpeg with restarts": ("JPEG", {"quality": 85, "restart_marker_blocks": 20}),
    "progressive jpeg": ("JPEG", {"quality": 85, "progressive": True}),
    "webp": ("WEBP", {"quality": 80}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "png": ("PNG", {}),
}


def noise(size: tuple[int, int], spread: float) -> Image.Image:
    """The same grain every time, so that a test that passes once always does."""
    width, height = size
    grain = np.random.default_rng(7).normal(128, spread, (height, width, 3))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


@cache
def whole(kind: str) -> bytes:
    """A photograph's texture under print, which leaves no decoder much slack."""
    grain = noise((800, 600), 40)
    draw = ImageDraw.Draw(grain)
    for line in range(0, 600, 40):
        draw.text((line % 90, line), f"{line} TOTAL 12.80 EUR  thank you for shopping", "black", font_size=24)
    file_format, options = WRITTEN[kind]
    return saved(grain, file_format, **options)


Damage = Callable[[bytes, random.Random], bytes]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(HEADER, len(data) * 9 // 10)]


def zeroed_end(data: bytes, chance: random.Random) -> bytes:
    return cut(data, chance).ljust(len(data), b"\0")


def end_put_on(data: bytes, chance: random.Random) -> bytes:
    return cut(data, chance) + data[-2:]


def begun_again(data: bytes, chance: random.Random) -> bytes:
    return cut(data, chance) + data


def as_text(data: bytes, chance: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def zeroed(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(HEADER, len(data) - 2 * HOLE)
    return data[:at] + bytes(HOLE) + data[at + HOLE :]


def overwritten(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(HEADER, len(data) - 2 * HOLE)
    return data[:at] + chance.randbytes(HOLE) + data[at + HOLE :]


def left_out(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(HEADER, len(data) - 2 * HOLE)
    return data[:at] + data[at + HOLE :]


def one_bit(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(HEADER, len(data) - 20)
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def refused(kind: str, damage: Damage, times: int = 12) -> float:
    """The share of damaged files that are not sent."""
    chance = random.Random(7)
    return sum(is_refused(damage(whole(kind), chance)) for _ in range(times)) / times


def is_refused(data: bytes) -> bool:
    try:
        prepare_image(data, OCR)
    except ImageError:
        return True
    return False


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_whole_file_goes_as_it_is(kind: str) -> None:
    (page,) = prepare_image(whole(kind), OCR)
    assert Image.open(io.BytesIO(page.data)).convert("RGB").tobytes() == (
        Image.open(io.BytesIO(whole(kind))).convert("RGB").tobytes()
    )
    assert page.media_type == f"image/{WRITTEN[kind][0].lower()}"


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_file_that_was_cut_short_is_never_sent(kind: str) -> None:
    assert refused(kind, cut) == 1


# What is told always, of which formats. The shares of everything else are in tasks/preparing/README.md.
ALWAYS: dict[Damage, list[str]] = {
    zeroed_end: ["jpeg", "optimized jpeg", "jpeg with restarts", "progressive jpeg", "png"],
    begun_again: ["jpeg", "progressive jpeg", "png"],
    as_text: ["progressive jpeg", "lossless webp", "gif", "png"],
    zeroed: ["jpeg", "jpeg with restarts", "png"],
    overwritten: ["gif", "png"],
    left_out: ["webp", "lossless webp", "gif", "png"],
    end_put_on: ["progressive jpeg", "webp", "lossless webp", "gif", "png"],
    one_bit: ["png"],
}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [pytest.param(kind, damage, id=f"{kind}-{damage.__name__}") for damage in ALWAYS for kind in ALWAYS[damage]],
)
def test_damage_that_is_always_told(kind: str, damage: Damage) -> None:
    assert refused(kind, damage) == 1


@pytest.mark.parametrize("kind", ["progressive jpeg", "webp"])
def test_single_bits_are_told_now_and_then_where_the_coding_lets_a_decoder_stumble(kind: str) -> None:
    assert refused(kind, one_bit, 30) > 0.05


def test_nothing_tells_a_single_bit_in_a_baseline_jpeg() -> None:
    """Not a full decode either, which is why none is paid for: any bits mean something there."""
    chance = random.Random(3)
    for _ in range(20):
        data = one_bit(whole("jpeg"), chance)
        image = Image.open(io.BytesIO(data))
        image.load()
        assert not must_be_decoded(read_container("JPEG", data, sys.maxsize), "JPEG") or not is_refused(data)


@pytest.mark.parametrize("colour", ["white", "black", (17, 200, 3)])
@pytest.mark.parametrize("optimize", [False, True])
def test_the_zeros_of_an_empty_page_are_no_hole(colour: str, optimize: bool) -> None:
    """Optimized tables write flat blocks as zeros: kilobytes of them."""
    page = Image.new("RGB", (1568, 1568), colour)
    ImageDraw.Draw(page).line((0, 1400, 1568, 1500), fill="red", width=3)
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        assert not is_refused(saved(page, "JPEG", optimize=optimize, **options))
        assert not is_refused(saved(page.convert("L"), "JPEG", optimize=optimize, quality=30))


def test_zeros_that_pad_the_end_harm_nobody() -> None:
    data = whole("jpeg")
    assert not is_refused(data[:-2] + bytes(500) + data[-2:])


@pytest.mark.parametrize("kind", ["jpeg", "jpeg with restarts", "progressive jpeg"])
def test_a_photo_that_is_shrunk_is_looked_at_alike(kind: str) -> None:
    file_format, options = WRITTEN[kind]
    large = noise((4032, 3024), 60)
    data = saved(large, file_format, **options)
    assert not is_refused(data)
    chance = random.Random(5)
    assert is_refused(end_put_on(data, chance))
    if kind != "progressive jpeg":  # whose scans a decoder fills in without a word now and then
        assert is_refused(zeroed(data, chance))
        assert is_refused(begun_again(data, chance))


@given(st.data())
@settings(max_examples=examples(300))
def test_no_file_makes_the_look_at_it_fail(data: st.DataObject) -> None:
    """Bytes of the tables changed, left out and put in: True, False or `damaged`, at once."""
    kind = data.draw(st.sampled_from(["jpeg", "jpeg with restarts", "progressive jpeg", "gif", "webp"]))
    damaged = bytearray(whole(kind)[:3000])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(2, HEADER))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        name = known_format(bytes(damaged))
        assert must_be_decoded(read_container(name, bytes(damaged), sys.maxsize), name) in (True, False)
    except ImageError:
        pass


def test_camera_files_are_not_suspected() -> None:
    """Of what cameras, scanners and editors write: the samples and the images of this project's documentation."""
    for path in Path("data/samples").glob("*.jpg"):
        data = path.read_bytes()
        assert not must_be_decoded(read_container("JPEG", data, sys.maxsize), "JPEG"), path
