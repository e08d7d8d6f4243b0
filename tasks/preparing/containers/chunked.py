"""Files that are a chain of chunks: PNG and APNG (w3.org/TR/png-3), GIF (w3.org/Graphics/GIF/spec-gif89a.txt), WebP."""

import struct
import zlib

from tasks.preparing.containers.container import (
    PARENT_PARTS,
    Container,
    damaged,
    exif_orientation,
    is_srgb,
    truncated,
    xmp_orientation,
)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The image itself, and what says how its numbers become light. Everything else is metadata.
_TEXTS = (b"iTXt", b"tEXt", b"zTXt")
_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT"))
_MAX_PROFILE = 1_000_000
_MAX_TEXT = 400_000  # an EXIF block of 64 kB in hexadecimal, three times over
_MAX_TEXTS = 16  # in which an orientation is looked for: to unpack one takes up to 2 ms

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


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
            _read_png_chunk(image, name, view[at + 8 : end - 4])
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


def _read_png_chunk(image: Container, name: bytes, body: memoryview) -> None:
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


def read_gif(data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a GIF file, or of its beginning; `frames` counts as far as the bytes and the parts go."""
    if len(data) < 13:
        raise truncated("GIF")
    image = Container(frames=0)
    image.width, image.height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table_size(flags)
    image.pieces.append(data[:at])
    for _ in range(most_parts):
        if at >= len(data):
            break
        kind, start = data[at], at
        if kind == _TRAILER:
            image.complete = image.frames > 0
            image.pieces.append(b";")
            break
        if kind == _EXTENSION:
            at = _skip_blocks(data, at + 2)
            if data[start + 1 : start + 2] == bytes([_GRAPHIC_CONTROL]) and image.frames == 0:
                image.alpha = image.alpha or bool(data[start + 3 : start + 4] and data[start + 3] & 1)
        elif kind == _IMAGE and at + 10 <= len(data):
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
            at = _skip_blocks(data, at + 10 + _table_size(flags) + 1)
            if image.frames == 0:
                image.plain = (left, top, width, height) == (0, 0, image.width, image.height)
                image.pieces.append(data[start:at])
            image.frames += 1
        else:
            break
    image.frames = max(image.frames, 1)
    if not image.width or not image.height:
        raise damaged("GIF", f"it claims to be {image.width} x {image.height} pixels")
    return image


def _table_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int) -> int:
    """The place after a chain of sub-blocks, which a length of zero ends."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1


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
        _read_webp_chunk(image, name, body)
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


def _read_webp_chunk(image: Container, name: bytes, body: memoryview) -> None:
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
