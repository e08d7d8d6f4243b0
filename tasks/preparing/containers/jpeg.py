"""JPEG: segments up to the end of the image (ITU T.81, annex B)."""

import re
from collections.abc import Iterator
from itertools import islice

from tasks.preparing.containers.container import (
    PARENT_PARTS,
    Container,
    damaged,
    exif_orientation,
    image_count,
    is_srgb,
    truncated,
    xmp_orientation,
)

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WIDELY_DECODED = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive with Huffman coding; arithmetic is not
_APP0, _APP1, _APP2, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_SOS, _EOI, _PADDING, _GARBAGE = 0xDA, 0xD9, 0xFF, 0x00
# In coded data 0xFF is followed by 0x00 or a restart marker; anything else is the next segment.
_FILL = re.compile(rb"\xff+")
_START_OF_IMAGE = b"\xff\xd8\xff"
_NEXT_SEGMENT = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def read_jpeg(data: bytes, most_parts: int = PARENT_PARTS) -> Container:
    """The container of a JPEG file, or of its beginning."""
    image = Container(pieces=[data[:2]])
    profile: dict[int, bytes] = {}
    behind = 0
    for kind, segment, end in islice(_segments(data), most_parts):
        behind = end
        if kind in _SOF:
            _read_frame(image, kind, bytes(segment[4:]))
        if _APP0 <= kind <= _APP15 or kind == _COMMENT:
            _read_metadata(image, profile, kind, bytes(segment[4:]))
        elif kind == _GARBAGE:
            image.intact = False
        else:
            image.pieces.append(segment)
        image.complete = kind == _EOI and image.width > 0
    if not image.width:
        raise truncated("JPEG")
    if profile and not is_srgb(b"".join(profile[number] for number in sorted(profile))):
        image.plain = False
    if data.find(_START_OF_IMAGE, behind) < 0:
        image.others = 0  # cut off by a program that left the index
    return image


def _segments(data: bytes) -> Iterator[tuple[int, memoryview, int]]:
    """Each whole segment after the first and where it ends, coded data with its scan header, to the image's end."""
    view, at = memoryview(data), 2
    while at + 1 < len(data):
        if data[at] != 0xFF:  # garbage, which decoders know how to skip
            following = _NEXT_SEGMENT.search(data, at)
            yield _GARBAGE, view[at:at], at
            at = following.start() if following else len(data)
            continue
        kind = data[at + 1]
        if kind == _EOI:
            yield kind, view[at : at + 2], at + 2
            return
        if kind == _PADDING:
            at = _FILL.match(data, at).end() - 1  # type: ignore[union-attr]
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end == at + 2:
            return
        if kind == _SOS:
            following = _NEXT_SEGMENT.search(data, end)
            end = following.start() if following else len(data)
        yield kind, view[at:end], end
        at = end


def _read_frame(image: Container, kind: int, body: bytes) -> None:
    if len(body) < 6:
        raise damaged("JPEG", "its frame header is too short")
    if image.width:  # a second frame header: hierarchical, or nonsense
        image.plain = False
        return
    image.height, image.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not image.height or not image.width:
        raise damaged("JPEG", f"it claims to be {image.width} x {image.height} pixels")
    image.plain = image.plain and kind in _WIDELY_DECODED and body[0] == 8 and body[5] in (1, 3)


def _read_metadata(image: Container, profile: dict[int, bytes], kind: int, body: bytes) -> None:
    """Take note of what an application segment says; of those, only what decoding needs is kept."""
    if kind == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        image.pieces.append(b"\xff\xe0\x00\x10" + body[:12] + b"\0\0")  # without its thumbnail
    elif kind == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
        image.pieces.append(b"\xff\xee\x00\x0e" + body[:12])
    elif kind == _APP1 and body.startswith(b"Exif\0\0"):
        image.orientation = exif_orientation(body)
    elif kind == _APP1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0") and image.orientation == 1:
        image.orientation = xmp_orientation(body)
    elif kind == _APP2 and body.startswith(b"ICC_PROFILE\0"):
        profile[body[12] if len(body) > 12 else 0] = body[14:]
    elif kind == _APP2 and body.startswith(b"MPF\0"):
        image.others = max(image_count(body[4:]) - 1, 0)
