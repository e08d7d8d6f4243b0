"""What Pillow refuses libvips reads, and a file that neither opens is told apart from one that is damaged."""

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import pyvips
from PIL import Image

from tasks.errors import ImageError
from tasks.preparing import image_header, is_image_name, prepare_image, sniff_format
from tasks.types import ImageRules
from tests.golden import CORNERS, GREYS, SIZE, Corners, saved, target

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784)


def colours() -> Any:
    return pyvips.Image.new_from_memory(target().tobytes(), *SIZE, 3, "uchar").copy(interpretation="srgb")


def greys() -> Any:
    return pyvips.Image.new_from_memory(target(GREYS, mode="L").tobytes(), *SIZE, 1, "uchar").copy(interpretation="b-w")


def as_tiff(image: Any, **options: Any) -> bytes:
    return bytes(image.write_to_buffer(".tif", **options))


def big_endian() -> bytes:
    """The grey target, 16 bits a pixel, as scientific cameras write it."""
    pixels = b"".join(struct.pack(">H", value * 257) for value in target(GREYS, mode="L").tobytes())
    entries = [(256, 3, SIZE[0]), (257, 3, SIZE[1]), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries += [(278, 3, SIZE[1]), (279, 4, len(pixels))]
    fields = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    place = struct.pack(">I", 8 + len(pixels))
    return b"MM\0*" + place + pixels + struct.pack(">H", len(entries)) + fields + bytes(4)


def junk_before_the_end() -> bytes:
    photo = saved(target(size=(640, 400)), "JPEG", quality=95)
    return photo[:-2] + random.Random(1).randbytes(30_000) + photo[-2:]


def halved(corners: Corners) -> Corners:
    first, second, third, fourth = (tuple(value // 2 for value in corner) for corner in corners)
    return first, second, third, fourth  # type: ignore[return-value]  # three values each


RARE: dict[str, tuple[Callable[[], bytes], Corners]] = {
    "big-endian 16-bit grey": (big_endian, GREYS),
    "BigTIFF": (lambda: as_tiff(colours(), bigtiff=True), CORNERS),
    "WebP in TIFF": (lambda: as_tiff(colours(), compression="webp", lossless=True), CORNERS),
    "signed 16-bit": (lambda: as_tiff(colours().cast("short")), CORNERS),
    "signed 8-bit": (lambda: as_tiff((colours() / 2).cast("char")), halved(CORNERS)),
    "unsigned 32-bit": (lambda: as_tiff(colours().cast("uint")), CORNERS),
    "16-bit": (lambda: as_tiff(colours().colourspace("rgb16")), CORNERS),
    "float, as light": (lambda: as_tiff(colours().colourspace("scrgb")), CORNERS),
    "float, up to 255": (lambda: as_tiff(colours().cast("float")), CORNERS),
    "CIE XYZ": (lambda: as_tiff(colours().colourspace("xyz")), CORNERS),
    "CIE Lab, float": (lambda: as_tiff(colours().colourspace("lab")), CORNERS),
    "CIE Lab, 16-bit": (lambda: as_tiff(colours().colourspace("labs")), CORNERS),
    "transparent 16-bit": (
        lambda: as_tiff(colours().colourspace("rgb16").bandjoin(0).copy(interpretation="rgb16")),
        ((255, 255, 255),) * 4,
    ),
    "five channels": (lambda: as_tiff(colours().bandjoin([1, 2])), CORNERS),
    "turned": (lambda: as_tiff(turned_by_three(colours().cast("uint"))), CORNERS[::-1]),
    "junk before a JPEG's end": (junk_before_the_end, CORNERS),
    "SGI": (lambda: saved(target(), "SGI"), CORNERS),
    "PCX": (lambda: saved(target(), "PCX"), CORNERS),
    "DIB": (lambda: saved(target(), "DIB"), CORNERS),
    "MPO": (lambda: saved(target(), "MPO", save_all=True, append_images=[target(GREYS)]), CORNERS),
}


def turned_by_three(image: Any) -> Any:
    image = image.copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", 3)
    return image


@pytest.mark.parametrize("kind", RARE)
def test_a_rare_kind_of_file_is_read(kind: str) -> None:
    data, corners = RARE[kind][0](), RARE[kind][1]
    header = image_header(data)
    (page,) = prepare_image(data, OCR)
    assert (header.width, header.height) == (page.source_width, page.source_height) == (page.width, page.height)
    image = Image.open(io.BytesIO(page.data)).convert("RGB")
    for (x, y), expected in zip(((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)), corners, strict=True):
        assert image.getpixel((int(x * image.width), int(y * image.height))) == pytest.approx(expected, abs=12)


def test_a_rare_page_among_common_ones_is_read_where_it_stands() -> None:
    """A TIFF of three pages, the second of a kind that Pillow refuses."""
    pages = [saved(target(), "TIFF"), as_tiff(colours().cast("uint")), saved(target(GREYS), "TIFF")]
    data, chain = b"II*\0" + bytes(4), 4
    for page in pages:  # each one's directory and values moved to where it lies now
        start = len(data)
        directory = int.from_bytes(page[4:8], "little")
        (count,) = struct.unpack_from("<H", page, directory)
        moved = bytearray(page)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from("<HHII", page, entry)
            if {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind] * number > 4 or tag == 273:
                struct.pack_into("<I", moved, entry + 8, value + start)
            if tag == 273 and number > 1:
                for strip in range(value, value + 4 * number, 4):
                    struct.pack_into("<I", moved, strip, struct.unpack_from("<I", page, strip)[0] + start)
        data = data[:chain] + struct.pack("<I", start + directory) + data[chain + 4 :] + bytes(moved)
        chain = start + directory + 2 + 12 * count
    first, second, third = prepare_image(data, OCR)
    assert [page.page for page in (first, second, third)] == [1, 2, 3]
    assert [page.note for page in (first, second, third)] == [None, "read by libvips", None]
    assert Image.open(io.BytesIO(second.data)).convert("RGB").getpixel((10, 10)) == pytest.approx(CORNERS[0], abs=12)


def test_an_image_behind_the_first_is_named_in_the_note() -> None:
    data = saved(target(), "MPO", save_all=True, append_images=[target(GREYS), target()])
    (page,) = prepare_image(data, OCR)
    assert page.note == "first of 3 images"
    (shrunk,) = prepare_image(saved(target(size=(3000, 2000)), "MPO", save_all=True, append_images=[target()]), OCR)
    assert shrunk.note == "first of 2 images"
    alone = data[: data.index(b"\xff\xd9") + 2]  # an index is left, and nothing behind the end
    (page,) = prepare_image(alone, OCR)
    assert page.note is None


@pytest.mark.parametrize("extension", ["mpo", "sgi", "pcx", "dib"])
def test_rare_kinds_are_listed(extension: str) -> None:
    assert is_image_name(f"photo.{extension}")
    assert is_image_name(f"PHOTO.{extension.upper()}")
    assert sniff_format(saved(target(), extension.upper())) == {"mpo": "JPEG"}.get(extension, extension.upper())


def test_unsupported_is_what_nothing_opens_and_damaged_what_opens_and_breaks() -> None:
    complex_numbers = as_tiff(greys().cast("complex"))
    assert reason(complex_numbers) == (
        "unsupported",
        "No decoder here opens this kind of TIFF; convert the file to JPEG or PNG",
    )
    zipped = bytearray(as_tiff(colours().cast("short"), compression="deflate"))
    zipped[20:200] = bytes(180)
    assert reason(bytes(zipped))[0] == "damaged"
    photo = saved(target(), "JPEG")
    assert reason(photo[: len(photo) * 2 // 3])[0] == "truncated", "what libvips would fill up with grey"


def reason(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        prepare_image(data, OCR)
    return caught.value.code, str(caught.value)


def test_loaders_that_count_as_untrusted_are_blocked() -> None:
    """In a process of its own: the block holds for ever. SVG alone is let in, and others are as before."""
    script = """
import pyvips
from tasks.preparing.vips import libvips
libvips()
for blocked in ("csvload", "vipsload", "rawload"):
    try:
        getattr(pyvips.Image, blocked)("/dev/null", *(1, 1, 1) * (blocked == "rawload"))
    except pyvips.Error as error:
        assert "blocked" in str(error), error
    else:
        raise AssertionError(blocked)
pyvips.Image.svgload_buffer(b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>')
"""
    subprocess.run([sys.executable, "-c", script], check=True)
