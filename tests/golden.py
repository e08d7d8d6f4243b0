"""The golden set: awkward image files, each built by code, with what must become of it.

`golden_files()` gives them by file name, so that a test of the whole flow can write them into a folder.
"""

import gzip
import io
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from PIL import Image

from tests.image_writers import (
    ARITHMETIC_JPEG,
    exif_block,
    heic,
    icc_profile,
    interlaced_png,
    png,
    png_chunk,
    psd,
    tiff,
)

Colour = tuple[int, int, int]
Corners = tuple[Colour, Colour, Colour, Colour]

SIZE = (96, 64)
CORNERS: Corners = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (220, 220, 40))  # from the top left, line by line
GREYS: Corners = ((40, 40, 40), (200, 200, 200), (120, 120, 120), (240, 240, 240))
WHITE, BLACK = (255, 255, 255), (0, 0, 0)

# Primaries under D50, as in the profiles of Adobe and Apple.
ADOBE_RGB = icc_profile(((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7445)), 563 / 256)
DISPLAY_P3 = icc_profile(((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2)

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {}>{}</svg>'
_QUADRANTS = "".join(
    f'<rect x="{x}" y="{y}" width="48" height="32" fill="rgb{colour}"/>'
    for (x, y), colour in zip(((0, 0), (48, 0), (0, 32), (48, 32)), CORNERS, strict=True)
)


@dataclass(frozen=True)
class Golden:
    """One file and what must become of it: `ok`, or the code of an ImageError."""

    data: bytes
    expect: str = "ok"
    corners: Corners | None = None  # colours near the corners of the sent image
    tolerance: int = 12
    pages: int = 1
    note: str | None = None  # part of the note on the last page
    size: tuple[int, int] | None = None  # as sent with the preset `ocr` to a high-resolution model
    as_it_is: bool | None = None  # whether the pixels are sent without being encoded again


@cache
def golden_files() -> dict[str, Golden]:
    """Every file of the set by its name."""
    files: dict[str, Golden] = {}
    for group in (_names, _turned, _coded, _colours, _deep, _many, _rare, _drawings, _broken, _extreme):
        for name, golden in group():
            assert name not in files
            files[name] = golden
    return files


def target(corners: Corners = CORNERS, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Four rectangles of colour, so that a turn, a mirror or a false colour shows."""
    image, (width, height) = Image.new("RGB", size), size
    for index, colour in enumerate(corners):
        left, top = index % 2 * width // 2, index // 2 * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image.convert(mode)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Corners:
    """The corners of the target once an EXIF orientation has been applied (EXIF 2.32, tag 274)."""
    order = {1: "0123", 2: "1032", 3: "3210", 4: "2301", 5: "0213", 6: "2031", 7: "3120", 8: "1302"}[orientation]
    return tuple(CORNERS[int(place)] for place in order)  # type: ignore[return-value]


def _names() -> Iterator[tuple[str, Golden]]:
    jpeg, as_png = saved(target(), "JPEG", quality=90), saved(target(), "PNG")
    yield "jpeg-named.png", Golden(jpeg, corners=CORNERS, as_it_is=True)
    yield "png-named.jpg", Golden(as_png, corners=CORNERS, as_it_is=True)
    yield "no-extension", Golden(jpeg, corners=CORNERS, as_it_is=True)
    yield "SHOUTING.JPG", Golden(saved(target(), "JPEG", quality=91), corners=CORNERS, as_it_is=True)
    yield "hóa đơn số 7 — 領収書 🧾.jpeg", Golden(saved(target(), "JPEG", quality=92), corners=CORNERS, as_it_is=True)
    yield "a  b\tc 100%25 #1?.png", Golden(saved(target(), "PNG", compress_level=1), corners=CORNERS, as_it_is=True)


def _turned() -> Iterator[tuple[str, Golden]]:
    for orientation in range(1, 9):
        exif, corners = exif_block(orientation), turned(orientation)
        size = SIZE if orientation < 5 else SIZE[::-1]
        as_it_is = orientation == 1
        jpeg = saved(target(), "JPEG", quality=95, exif=b"Exif\0\0" + exif, comment=b"SecretCam comment")
        yield f"turned-{orientation}.jpg", Golden(jpeg, corners=corners, size=size, as_it_is=as_it_is)
        for extension, file_format in (("png", "PNG"), ("webp", "WEBP")):
            options = {"lossless": True} if file_format == "WEBP" else {}
            data = saved(target(), file_format, exif=b"Exif\0\0" + exif, **options)
            yield f"turned-{orientation}.{extension}", Golden(data, corners=corners, size=size, as_it_is=as_it_is)
        tags = {274: orientation, 271: "SecretCam"}
        yield f"turned-{orientation}.tif", Golden(saved(target(), "TIFF", tiffinfo=tags), corners=corners, size=size)
        yield f"turned-{orientation}.heic", Golden(heic(orientation), corners=corners, size=size)
        avif = saved(target(), "AVIF", quality=90, exif=exif)
        yield f"turned-{orientation}.avif", Golden(avif, corners=corners, size=size)


def _coded() -> Iterator[tuple[str, Golden]]:
    photo = target(size=(640, 400))
    yield "progressive.jpg", Golden(saved(photo, "JPEG", progressive=True), corners=CORNERS, as_it_is=True)
    yield "arithmetic.jpg", Golden(ARITHMETIC_JPEG, corners=CORNERS, as_it_is=False)
    yield "interlaced.png", Golden(interlaced_png(*SIZE, target().tobytes()), corners=CORNERS, as_it_is=True)
    yield "restart-markers.jpg", Golden(saved(photo, "JPEG", restart_marker_rows=1), corners=CORNERS, as_it_is=True)
    yield "lossy.webp", Golden(saved(photo, "WEBP", quality=90), corners=CORNERS, as_it_is=True)
    yield "still.gif", Golden(saved(target(), "GIF", comment=b"SecretCam"), corners=CORNERS, as_it_is=True)
    secret = saved(target(), "JPEG") + b"PK\x03\x04SecretCam diary"
    yield "archive-behind-the-image.jpg", Golden(secret, corners=CORNERS, as_it_is=True)
    behind_png = saved(target(), "PNG", compress_level=2) + b"SecretCam diary"
    yield "text-behind-the-image.png", Golden(behind_png, corners=CORNERS, as_it_is=True)
    two = saved(target(), "MPO", save_all=True, append_images=[target(GREYS)])
    yield "stereo.mpo.jpg", Golden(two, corners=CORNERS, note="first of 2 images", as_it_is=True)


def _colours() -> Iterator[tuple[str, Golden]]:
    cmyk = target(mode="CMYK")
    yield "cmyk-adobe-inverted.jpg", Golden(saved(cmyk, "JPEG", quality=95), corners=CORNERS)
    straight = Image.eval(cmyk, lambda value: 255 - value)
    yield "cmyk-not-inverted.jpg", Golden(_without_adobe(saved(straight, "JPEG", quality=95)), corners=CORNERS)
    yield "cmyk.tif", Golden(saved(cmyk, "TIFF"), corners=CORNERS)
    # What sRGB shows for these numbers, worked out from the primaries: Adobe RGB's green is outside it.
    adobe = saved(Image.new("RGB", SIZE, (100, 150, 100)), "PNG", icc_profile=ADOBE_RGB)
    yield "adobe-rgb.png", Golden(adobe, corners=((65, 150, 99),) * 4, tolerance=3, as_it_is=False)
    p3 = saved(Image.new("RGB", SIZE, (200, 100, 100)), "JPEG", quality=98, icc_profile=DISPLAY_P3)
    yield "display-p3.jpg", Golden(p3, corners=((215, 95, 96),) * 4, tolerance=5, as_it_is=False)
    lab = Image.merge("LAB", [Image.new("L", SIZE, value) for value in (138, 128 + 60, 128 + 40)])
    yield "lab.tif", Golden(saved(lab, "TIFF"), corners=((227, 77, 67),) * 4, tolerance=12)
    yield "one-bit-fax.tif", Golden(saved(target((BLACK, WHITE, WHITE, BLACK), mode="1"), "TIFF", compression="group4"),
                                    corners=(BLACK, WHITE, WHITE, BLACK))  # fmt: skip
    alpha = target(mode="RGBA")
    alpha.paste((0, 0, 0, 0), (0, 0, 48, 32))
    on_white: Corners = (WHITE, *CORNERS[1:])
    yield "transparent.png", Golden(saved(alpha, "PNG"), corners=on_white, as_it_is=False)
    yield "transparent.webp", Golden(saved(alpha, "WEBP", lossless=True), corners=on_white, as_it_is=False)
    yield "transparent.gif", Golden(saved(alpha, "GIF"), corners=on_white, as_it_is=False)
    yield "transparent-palette.png", Golden(saved(alpha.quantize(8), "PNG"), corners=on_white, as_it_is=False)
    grey = Image.merge("LA", (target(GREYS, mode="L"), alpha.getchannel("A")))
    yield "transparent-grey.png", Golden(saved(grey, "PNG"), corners=(WHITE, *GREYS[1:]), as_it_is=False)
    yield "opaque-alpha.png", Golden(saved(target(mode="RGBA"), "PNG"), corners=CORNERS, as_it_is=True)
    keyed = saved(target((BLACK, *CORNERS[1:])), "PNG", transparency=BLACK)
    yield "colour-key.png", Golden(keyed, corners=on_white, as_it_is=False)


def _deep() -> Iterator[tuple[str, Golden]]:
    def rows(corners: Corners, order: Literal["big", "little"], channels: int) -> list[bytes]:
        lines = []
        for y in range(SIZE[1]):
            colours = [corners[(y >= SIZE[1] // 2) * 2 + (x >= SIZE[0] // 2)][:channels] for x in range(SIZE[0])]
            lines.append(b"".join((value * 257).to_bytes(2, order) for colour in colours for value in colour))
        return lines

    grey_png = png(*SIZE, (b"\0" + row for row in rows(GREYS, "big", 1)), depth=16, colour=0)
    rgb_png = png(*SIZE, (b"\0" + row for row in rows(CORNERS, "big", 3)), depth=16)
    yield "grey-16-bit.png", Golden(grey_png, corners=GREYS, as_it_is=False)
    yield "rgb-16-bit.png", Golden(rgb_png, corners=CORNERS, as_it_is=False)
    little = b"".join(rows(GREYS, "little", 1))
    yield "grey-16-bit.tif", Golden(tiff(*SIZE, little, bits=(16,), photometric=1), corners=GREYS)
    rgb = b"".join(rows(CORNERS, "little", 3))
    yield "rgb-16-bit.tif", Golden(tiff(*SIZE, rgb, bits=(16, 16, 16), photometric=2), corners=CORNERS)
    big = b"P5 96 64 65535\n" + b"".join(rows(GREYS, "big", 1))
    yield "grey-16-bit.pgm", Golden(big, corners=GREYS)
    floats = target(GREYS, mode="L").convert("F").point(lambda value: value * (1 / 255) + 0)
    yield "float.tif", Golden(saved(floats, "TIFF"), corners=GREYS)


def _many() -> Iterator[tuple[str, Golden]]:
    frames = [target(), target(GREYS), target(CORNERS[::-1])]
    for extension, file_format, options in (
        ("gif", "GIF", {"duration": 100}),
        ("webp", "WEBP", {"lossless": True}),
        ("png", "PNG", {}),
        ("avif", "AVIF", {"quality": 90}),
    ):
        data = saved(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        yield f"animated.{extension}", Golden(data, corners=CORNERS, note="first of 3 frames", as_it_is=False)
    three = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    yield "three-pages.tif", Golden(three, corners=CORNERS, pages=3)
    long = saved(frames[0], "TIFF", save_all=True, append_images=[target(size=(48, 32))] * 59)
    yield "sixty-pages.tif", Golden(long, corners=CORNERS, pages=50, note="50 of 60")
    yield "burst.heic", Golden(heic(images=3), corners=CORNERS, note="primary of 3 images")


def _rare() -> Iterator[tuple[str, Golden]]:
    planes = b"".join(target().getchannel(band).tobytes() for band in "RGB")
    yield "layers.psd", Golden(psd(*SIZE, planes), corners=CORNERS)
    for extension, file_format in (
        ("bmp", "BMP"),
        ("tga", "TGA"),
        ("ppm", "PPM"),
        ("dds", "DDS"),
        ("jp2", "JPEG2000"),
        ("qoi", "QOI"),
    ):
        yield f"picture.{extension}", Golden(saved(target(), file_format), corners=CORNERS)
    yield "icon.ico", Golden(saved(target(), "ICO", sizes=[(16, 16), (48, 48)]), size=(48, 32))
    yield "new-format.jxl", Golden(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "unsupported")


def _drawings() -> Iterator[tuple[str, Golden]]:
    box = 'viewBox="0 0 96 64"'
    sized = _SVG.format('width="96" height="64"', _QUADRANTS)
    yield "drawing.svg", Golden(sized.encode(), corners=CORNERS, size=SIZE)
    yield "drawing.svgz", Golden(gzip.compress(sized.encode()), corners=CORNERS, size=SIZE)
    yield "drawing-utf-16.svg", Golden(sized.encode("utf-16"), corners=CORNERS, size=SIZE)
    yield "without-a-size.svg", Golden(_SVG.format(box, _QUADRANTS).encode(), corners=CORNERS, size=(2048, 1366))
    yield "without-size-or-box.svg", Golden(_SVG.format("", _QUADRANTS).encode(), corners=CORNERS)
    huge = f'<g transform="scale(100000)">{_QUADRANTS}</g>'
    vast = _SVG.format('viewBox="0 0 9600000 6400000"', huge)
    yield "enormous-box.svg", Golden(vast.encode(), corners=CORNERS, size=(2048, 1366))
    vast = _SVG.format('width="9600000px" height="6400000" viewBox="0 0 96 64"', _QUADRANTS)
    yield "enormous-size.svg", Golden(vast.encode(), corners=CORNERS, size=(2048, 1366))
    outside = '<image href="{}" width="96" height="64"/>'
    links = (
        outside.format("secret.png") + outside.format("file:///etc/passwd") + outside.format("http://127.0.0.1:9/x.png")
    )
    yield "external-references.svg", Golden(_SVG.format('width="96" height="64"', links).encode(), corners=(WHITE,) * 4,
                                            note="not followed")  # fmt: skip
    own = '<!DOCTYPE svg [<!ENTITY red "rgb(200,30,30)">]>'
    entity = own + _SVG.format('width="96" height="64"', '<rect width="96" height="64" fill="&red;"/>')
    yield "own-entity.svg", Golden(entity.encode(), corners=(CORNERS[0],) * 4)
    foreign = '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + _SVG.format(box, "<text>&x;</text>")
    yield "foreign-entity.svg", Golden(foreign.encode(), "unsafe")
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE svg [<!ENTITY l0 "lol">{laughs}]>' + _SVG.format(box, "<text>&l9;</text>")
    yield "billion-laughs.svg", Golden(bomb.encode(), "damaged")
    blanks = gzip.compress(_SVG.format(box, " " * 60_000_000).encode(), compresslevel=1)
    yield "blank-bomb.svgz", Golden(blanks, "too_large")
    yield "cut-short.svg", Golden(sized[: len(sized) // 2].encode(), "damaged")


def _broken() -> Iterator[tuple[str, Golden]]:
    noise = Image.frombytes("RGB", (200, 200), random.Random(7).randbytes(120_000))
    for extension, file_format in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("gif", "GIF")):
        data = saved(noise, file_format)
        yield f"cut-short.{extension}", Golden(data[: len(data) * 6 // 10], "truncated")
    yield "cut-short.bmp", Golden(saved(noise, "BMP")[:60_000], "damaged")
    yield "cut-short.heic", Golden(heic()[:-100], "damaged")
    flipped = bytearray(saved(noise, "PNG", compress_level=3))
    flipped[20_000] ^= 0xFF
    yield "flipped-bits.png", Golden(bytes(flipped), "damaged")
    yield "nothing.jpg", Golden(b"", "empty")
    yield "text.jpg", Golden("Ceci n’est pas une image. Đây không phải là ảnh.\n".encode(), "not_an_image")
    yield "page.png", Golden(b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image")
    yield "document.jpg", Golden(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "not_an_image")
    yield "header-only.jpg", Golden(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "truncated")
    long_text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    bomb = saved(target(), "PNG", compress_level=4)
    yield "text-bomb.png", Golden(bomb[:33] + long_text + bomb[33:], corners=CORNERS)
    wide = saved(target(size=(3000, 2000)), "PNG")
    yield "text-bomb-to-shrink.png", Golden(wide[:33] + long_text + wide[33:], corners=CORNERS, size=(2048, 1365))


def _extreme() -> Iterator[tuple[str, Golden]]:
    side = 30_000
    row = bytes(1 + side // 8)
    yield "bomb.png", Golden(png(side, side, (row for _ in range(side)), depth=1, colour=0), "too_many_pixels")
    yield "one-pixel.png", Golden(saved(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"), size=(1, 1))
    yield "one-pixel.bmp", Golden(saved(Image.new("RGB", (1, 1), (9, 9, 9)), "BMP"), size=(1, 1))
    yield "ribbon.png", Golden(saved(Image.new("RGB", (20_000, 20), WHITE), "PNG"), size=(2048, 2))
    yield "thread.jpg", Golden(saved(Image.new("RGB", (1, 20_000), WHITE), "JPEG"), size=(1, 2048))
    panorama = target(size=(9000, 1500))
    yield "panorama.jpg", Golden(saved(panorama, "JPEG"), corners=CORNERS, size=(2048, 341))
    noise = Image.frombytes("RGB", (2000, 2000), random.Random(8).randbytes(12_000_000))
    yield "twelve-megabytes-of-noise.png", Golden(saved(noise, "PNG", compress_level=0), as_it_is=False)


def _without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]
