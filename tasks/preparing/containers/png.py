"""PNG and APNG: chunks (https://www.w3.org/TR/png-3/)."""

import struct
import zlib

from tasks.preparing.containers.container import PARENT_PARTS, Container, damaged, truncated, xmp_orientation
from tasks.preparing.containers.icc import is_srgb
from tasks.preparing.containers.tiff import exif_orientation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The image itself, and what says how its numbers become light. Everything else is metadata.
_TEXTS = (b"iTXt", b"tEXt", b"zTXt")
_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT"))
_MAX_PROFILE = 1_000_000
_MAX_TEXT = 400_000  # an EXIF block of 64 kB in hexadecimal, three times over
_MAX_TEXTS = 16  # in which an orientation is looked for: to unpack one takes up to 2 ms


def read_png(data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a PNG file, or of its beginning."""
    image = Container(pieces=[_SIGNATURE])
    view, at, pixels, texts, profiles = memoryview(data), len(_SIGNATURE), False, 0, 0
    for _ in range(most_parts):
        if at + 12 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        checksum = int.from_bytes(view[end - 4 : end], "big")
        image.intact = image.intact and zlib.crc32(view[at + 4 : end - 4]) == checksum
        texts, profiles = texts + (name in _TEXTS), profiles + (name == b"iCCP")
        if profiles > 1:
            image.plain = False  # which of them counts, a decoder knows
        elif name not in _TEXTS or texts <= _MAX_TEXTS:
            _read_chunk(image, name, view[at + 8 : end - 4])
        pixels = pixels or name == b"IDAT"
        if name in _KEPT:
            image.pieces.append(view[at:end])
        at = end
        if name == b"IEND":
            image.complete = pixels
            break
    if not image.width:
        if len(data) >= 33:
            raise damaged("PNG", "it does not begin with its size")
        raise truncated("PNG")
    return image


def _read_chunk(image: Container, name: bytes, body: memoryview) -> None:
    if name == b"IHDR" and len(body) == 13:
        image.width, image.height, depth, colour = struct.unpack_from(">IIBB", body)
        image.alpha = colour in (4, 6)
        image.plain = depth <= 8
        if not image.width or not image.height:
            raise damaged("PNG", f"it claims to be {image.width} x {image.height} pixels")
    elif name == b"tRNS":
        image.alpha = True
    elif name == b"acTL" and len(body) == 8:
        image.frames = max(struct.unpack_from(">I", body)[0], 1)
    elif name == b"iCCP":
        image.plain = image.plain and is_srgb(_inflate(bytes(body).partition(b"\0")[2][1:], _MAX_PROFILE))
    elif name == b"cICP":
        image.plain = image.plain and bytes(body) == b"\x01\x0d\x00\x01"  # sRGB, full range
    elif name == b"eXIf":
        image.orientation = exif_orientation(bytes(body))
    elif name in _TEXTS and image.orientation == 1:
        image.orientation = _text_orientation(name, bytes(body[:_MAX_TEXT]))


def _text_orientation(name: bytes, body: bytes) -> int:
    """Orientation in an XMP packet, or in the EXIF block that ImageMagick writes as hexadecimal text."""
    keyword, _, text = body.partition(b"\0")
    if keyword == b"XML:com.adobe.xmp":
        return xmp_orientation(text)
    if keyword not in (b"Raw profile type exif", b"Raw profile type APP1"):
        return 1
    if name == b"zTXt":
        text = _inflate(text[1:], _MAX_TEXT)
    try:
        return exif_orientation(bytes.fromhex(b"".join(text.split()[2:]).decode("ascii")))
    except ValueError:
        return 1


def _inflate(body: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, most)
    except zlib.error:
        return b""
