"""What a file says about itself in its first bytes, without decoding a pixel."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import ImageError
from tasks.preparing.containers.chunked import read_gif, read_png, read_webp
from tasks.preparing.containers.container import (
    PARENT_BYTES,
    PARENT_PARTS,
    Container,
    damaged,
    foreign_bytes,
    tiff_pages,
    truncated,
)
from tasks.preparing.containers.isobmff import iso_image_size
from tasks.preparing.containers.jpeg import read_jpeg
from tasks.preparing.containers.svg import CANVAS_EDGE, read_svg
from tasks.preparing.formats import describe_other, sniff_format, svg_text

HEADER_BYTES = 65_536  # enough for nearly every file but TIFF, which may keep its header at its end


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format, size in pixels after orientation, and pages (a film or animation has one: its first frame)."""

    format: str
    width: int
    height: int
    pages: int = 1


def image_header(data: bytes) -> ImageHeader:
    """The header of an image file or of its beginning.

    A drawing that names neither size nor view box counts as a square here; preparing it finds its shape.
    ImageError: `empty`, `not_an_image`, `damaged`, or `truncated` when the header lies beyond the bytes given.
    """
    name = known_format(data)
    with foreign_bytes(name):
        return _header(data, name)


def read_container(name: str, data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a file of one of the formats in CONTAINERS; nothing but ImageError is raised."""
    with foreign_bytes(name):
        return CONTAINERS[name](data, most_parts)


def _header(data: bytes, name: str) -> ImageHeader:
    if name in CONTAINERS:
        image = read_container(name, data[:PARENT_BYTES])
        return ImageHeader(name, *oriented(image.width, image.height, image.orientation))
    if name == "TIFF":
        pages = tiff_pages(data)
        first = pages[0]
        return ImageHeader(name, *oriented(first.width, first.height, first.orientation), len(pages))
    width, height = _SIZES[name](data)
    if width <= 0 or height <= 0:
        raise damaged(name, f"it claims to be {width} x {height} pixels")
    return ImageHeader(name, width, height)


def known_format(data: bytes) -> str:
    """The format by the first bytes; ImageError for an empty file, no image, or one that nothing here decodes."""
    if not data:
        raise ImageError("empty", "The file is empty (0 bytes)")
    name = sniff_format(data)
    if name is None:
        raise ImageError("not_an_image", f"The file is no image: its content is {describe_other(data)}")
    if name not in CONTAINERS and name not in _SIZES and name != "TIFF":
        raise ImageError("unsupported", f"{name} images cannot be read yet; convert the file to JPEG or PNG")
    return name


def oriented(width: int, height: int, orientation: int) -> tuple[int, int]:
    """A stored size after its EXIF orientation has been applied."""
    return (height, width) if orientation >= 5 else (width, height)


def _bmp_size(data: bytes, at: int = 14) -> tuple[int, int]:
    if struct.unpack_from("<I", data, at)[0] == 12:
        return struct.unpack_from("<HH", data, at + 4)
    width, height = struct.unpack_from("<ii", data, at + 4)
    return width, abs(height)  # negative: stored top down


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    at = data.find(b"ihdr")
    if data.startswith(b"\xff\x4f"):
        right, bottom, left, top = struct.unpack_from(">4I", data, 8)
        return right - left, bottom - top
    if at < 0:
        raise truncated("JPEG 2000")
    height, width = struct.unpack_from(">II", data, at + 4)
    return width, height


def _icon_size(data: bytes) -> tuple[int, int]:
    """The largest picture of an icon; a side of 256 is written as 0."""
    (count,) = struct.unpack_from("<H", data, 4)
    sizes = [struct.unpack_from("<BB", data, 6 + 16 * index) for index in range(min(count, 256))]
    if not sizes:
        raise damaged("icon", "it holds no picture")
    width, height = max(sizes, key=lambda size: (size[0] or 256) * (size[1] or 256))
    return width or 256, height or 256


def _pcx_size(data: bytes) -> tuple[int, int]:
    left, top, right, bottom = struct.unpack_from("<4H", data, 4)
    return right - left + 1, bottom - top + 1


def _ppm_size(data: bytes) -> tuple[int, int]:
    found = re.match(rb"P[1-6fF](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s", data[:HEADER_BYTES])
    if not found:
        raise damaged("PPM", "its header has no size")
    return int(found[1]), int(found[2])


def _svg_size(data: bytes) -> tuple[int, int]:
    """The drawing's own size, or a canvas where it has none (`containers.svg`)."""
    drawing = read_svg(svg_text(data) or "")
    return drawing.width or CANVAS_EDGE, drawing.height or CANVAS_EDGE


def _reversed(size: tuple[int, int]) -> tuple[int, int]:
    return size[1], size[0]


CONTAINERS: dict[str, Callable[[bytes, int], Container]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "GIF": read_gif,
    "WEBP": read_webp,
}
_SIZES: dict[str, Callable[[bytes], tuple[int, int]]] = {
    "BMP": _bmp_size,
    "DIB": lambda data: _bmp_size(data, 0),
    "SGI": lambda data: struct.unpack_from(">HH", data, 6),
    "PCX": _pcx_size,
    "HEIF": lambda data: iso_image_size(data, "HEIF"),
    "AVIF": lambda data: iso_image_size(data, "AVIF"),
    "JPEG2000": _jpeg2000_size,
    "ICO": _icon_size,
    "CUR": _icon_size,
    "PSD": lambda data: _reversed(struct.unpack_from(">II", data, 14)),
    "DDS": lambda data: _reversed(struct.unpack_from("<II", data, 12)),
    "QOI": lambda data: struct.unpack_from(">II", data, 4),
    "TGA": lambda data: struct.unpack_from("<HH", data, 12),
    "PPM": _ppm_size,
    "SVG": _svg_size,
}
