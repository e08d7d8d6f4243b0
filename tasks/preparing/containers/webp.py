"""WebP: RIFF chunks (RFC 9649)."""

import struct

from tasks.preparing.containers.container import PARENT_PARTS, Container, damaged, truncated, xmp_orientation
from tasks.preparing.containers.icc import is_srgb
from tasks.preparing.containers.tiff import exif_orientation


def read_webp(data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a WebP file, or of its beginning."""
    image = Container(frames=0)
    declared = 8 + int.from_bytes(data[4:8], "little")
    view, at, pixels = memoryview(data)[:declared], 12, False
    for _ in range(most_parts):
        if at + 8 > len(view):
            break
        name, length = struct.unpack_from("<4sI", view, at)
        body = view[at + 8 : at + 8 + length]
        _read_chunk(image, name, body)
        if len(body) < length:
            break
        if name in (b"VP8 ", b"VP8L"):
            pixels = True
            image.pieces += [view[at : at + 8 + length], b"\0" * (length % 2)]
        at += 8 + length + length % 2
    if not image.width or not image.height:
        if len(data) < 30:
            raise truncated("WebP")
        raise damaged("WebP", "it does not begin with its size")
    image.frames = max(image.frames, 1)
    image.complete = pixels and len(data) >= declared
    # One chunk of pixels without alpha needs no extended header: this is the simple file format.
    size = 4 + sum(len(piece) for piece in image.pieces)
    image.pieces.insert(0, b"RIFF" + size.to_bytes(4, "little") + b"WEBP")
    return image


def _read_chunk(image: Container, name: bytes, body: memoryview) -> None:
    if name == b"VP8X" and len(body) >= 10:
        image.width = int.from_bytes(body[4:7], "little") + 1
        image.height = int.from_bytes(body[7:10], "little") + 1
    elif name == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        _set_size(image, width & 0x3FFF, height & 0x3FFF)
    elif name == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        _set_size(image, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        image.alpha = image.alpha or bool(bits >> 28 & 1)
    elif name == b"ALPH":
        image.alpha = True
    elif name == b"ANMF":
        image.frames += 1
        image.plain = False
    elif name == b"ICCP":
        image.plain = image.plain and is_srgb(bytes(body))
    elif name == b"EXIF":
        image.orientation = exif_orientation(bytes(body))
    elif name == b"XMP " and image.orientation == 1:
        image.orientation = xmp_orientation(bytes(body))


def _set_size(image: Container, width: int, height: int) -> None:
    if not image.width:
        image.width, image.height = width, height
    elif (image.width, image.height) != (width, height):  # the canvas is larger than its one frame
        image.plain = False
