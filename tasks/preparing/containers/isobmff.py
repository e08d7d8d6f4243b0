"""HEIF and AVIF: the boxes that say how large the primary image is (ISO 14496-12, ISO 23008-12)."""

import struct
from collections.abc import Iterator
from itertools import islice

from tasks.errors import ImageError
from tasks.preparing.containers.container import PARENT_BYTES, PARENT_PARTS, damaged, truncated


def iso_image_size(data: bytes, what: str) -> tuple[int, int]:
    """Width and height of the primary image after its rotation."""
    for name, body in _boxes(memoryview(data)):
        if name != b"meta":
            continue
        try:
            return _primary_size(body[4:PARENT_BYTES], what)
        except (struct.error, IndexError, KeyError) as error:
            raise truncated(what) from error
    if data[8:12] in (b"msf1", b"hevc", b"hevx"):
        raise ImageError("unsupported", f"The {what} file is a film without a still image; export a frame of it")
    raise truncated(what)


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    return islice(_all_boxes(view), PARENT_PARTS)


def _all_boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    while at + 8 <= len(view):
        size, name = struct.unpack_from(">I4s", view, at)
        start = at + 8
        if size == 1 and start + 8 <= len(view):
            (size,) = struct.unpack_from(">Q", view, start)
            start += 8
        end = at + size if size else len(view)
        if end < start:
            return
        yield name, view[start:end]
        at = end


def _primary_size(meta: memoryview, what: str) -> tuple[int, int]:
    boxes = dict(_boxes(meta))
    pitm, iprp = boxes[b"pitm"], dict(_boxes(boxes[b"iprp"]))
    primary = int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8], "big")
    properties = list(_boxes(iprp[b"ipco"]))
    width = height = 0
    for index in _associations(iprp[b"ipma"], primary):
        name, body = properties[index - 1]  # counted from 1
        if name == b"ispe":
            width, height = struct.unpack_from(">II", body, 4)
        elif name == b"clap" and what == "HEIF":  # Pillow shows AVIF uncropped
            across, below, down, under = struct.unpack_from(">4I", body)
            width, height = round(across / max(below, 1)), round(down / max(under, 1))
        elif name == b"irot" and body[0] & 1:
            width, height = height, width
    if not width or not height:
        raise damaged(what, "its primary image has no size")
    return width, height


def _associations(ipma: memoryview, wanted: int) -> list[int]:
    """The numbers of an item's properties, counted from 1."""
    version, wide = ipma[0], ipma[3] & 1
    (count,), at = struct.unpack_from(">I", ipma, 4), 8
    for _ in range(min(count, 65_536)):
        item = int.from_bytes(ipma[at : at + (4 if version else 2)], "big")
        at += 4 if version else 2
        length = ipma[at]
        if item == wanted:
            codes = struct.unpack_from(f">{length}{'H' if wide else 'B'}", ipma, at + 1)
            return [number for code in codes if (number := code & (0x7FFF if wide else 0x7F))]
        at += 1 + length * (2 if wide else 1)
    return []
