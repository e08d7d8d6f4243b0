"""Where the structure of a file lies: the places between its pieces, and the numbers that say lengths, offsets, counts.

For the fuzzer (`tests.fuzz`), which changes these rather than any bytes: a file that is wrong everywhere is refused by
the first look at it, and shows nothing of what lies behind.
"""

import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tasks.preparing import sniff_format


@dataclass
class Structure:
    """Cuts, ascending, between pieces; numbers as (place, bytes, byte order)."""

    cuts: list[int] = field(default_factory=list)
    numbers: list[tuple[int, int, str]] = field(default_factory=list)


def structure_of(data: bytes) -> Structure:
    """What is known of the file; of a damaged one as far as it can be followed."""
    name = sniff_format(data) or ""
    found = Structure()
    with suppress(struct.error, IndexError, ValueError):
        READERS.get(name, _words)(data, found)
    found.cuts = sorted({cut for cut in found.cuts if 0 < cut < len(data)})
    found.numbers = [number for number in found.numbers if number[0] + number[1] <= len(data)]
    return found


def put(data: bytes, number: tuple[int, int, str], value: int) -> bytes:
    """The file with another value there."""
    place, size, order = number
    packed = (value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")
    return data[:place] + packed + data[place + size :]


def get(data: bytes, number: tuple[int, int, str]) -> int:
    """The value there."""
    place, size, order = number
    return int.from_bytes(data[place : place + size], "big" if order == ">" else "little")


def with_right_checksums(data: bytes) -> bytes:
    """A PNG with every checksum right, so that what was changed is looked at; any other file as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        mended[end - 4 : end] = zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return bytes(mended)


def _jpeg(data: bytes, found: Structure) -> None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        found.cuts.append(at)
        found.numbers.append((at + 2, 2, ">"))
        if kind in range(0xC0, 0xC4):
            found.numbers += [(at + 4, 1, ">"), (at + 5, 2, ">"), (at + 7, 2, ">"), (at + 9, 1, ">"), (at + 11, 1, ">")]
        if data[at + 4 : at + 10] == b"Exif\0\0":
            _tiff_at(data, at + 10, found)
        if data[at + 4 : at + 8] == b"MPF\0":
            _tiff_at(data, at + 8, found)
        if data[at + 4 : at + 15] == b"ICC_PROFILE":
            _icc_at(at + 18, found)
        at += 2 + length
        if kind == 0xDA:
            found.cuts.append(at)
            break


def _png(data: bytes, found: Structure) -> None:
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        found.cuts.append(at)
        found.numbers.append((at, 4, ">"))
        if name == b"IHDR":
            found.numbers += [(at + 8, 4, ">"), (at + 12, 4, ">")] + [(at + 16 + place, 1, ">") for place in range(5)]
        elif name == b"eXIf":
            _tiff_at(data, at + 8, found)
        elif name in (b"acTL", b"fcTL"):
            found.numbers += [(at + 8 + 4 * place, 4, ">") for place in range(length // 4)]
        at += 12 + length


def _gif(data: bytes, found: Structure) -> None:
    found.numbers += [(6, 2, "<"), (8, 2, "<"), (10, 1, "<")]
    for match in re.finditer(rb"[,!;]", data[:4096]):
        found.cuts.append(match.start())
        found.numbers += [(match.start() + 1 + 2 * place, 2, "<") for place in range(4)]
        found.numbers.append((match.start() + 2, 1, "<"))


def _webp(data: bytes, found: Structure) -> None:
    found.numbers.append((4, 4, "<"))
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        found.cuts.append(at)
        found.numbers += [(at + 4, 4, "<")] + [(at + 8 + place, 1, "<") for place in range(10)]
        if name == b"EXIF":
            _tiff_at(data, at + 8, found)
        elif name == b"ICCP":
            _icc_at(at + 8, found)
        at += 8 + length + length % 2


def _tiff(data: bytes, found: Structure) -> None:
    _tiff_at(data, 0, found)


def _tiff_at(data: bytes, start: int, found: Structure) -> None:
    order = "<" if data[start : start + 2] == b"II" else ">"
    found.numbers += [(start + 2, 2, order), (start + 4, 4, order)]
    offset, seen = struct.unpack_from(order + "I", data, start + 4)[0], 0
    while offset and seen < 4:
        (count,) = struct.unpack_from(order + "H", data, start + offset)
        at = start + offset
        found.cuts.append(at)
        found.numbers.append((at, 2, order))
        for entry in range(at + 2, at + 2 + 12 * min(count, 40), 12):
            found.numbers += [(entry, 2, order), (entry + 2, 2, order), (entry + 4, 4, order), (entry + 8, 4, order)]
        link = at + 2 + 12 * count
        found.numbers.append((link, 4, order))
        offset, seen = struct.unpack_from(order + "I", data, link)[0], seen + 1


def _iso(data: bytes, found: Structure) -> None:
    _boxes(data, 0, len(data), found, depth=0)


def _boxes(data: bytes, at: int, end: int, found: Structure, depth: int) -> None:
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        found.cuts.append(at)
        found.numbers.append((at, 4, ">"))
        body = at + 8
        if name in (b"meta", b"iprp", b"ipco", b"iinf") and depth < 4:
            inner = body + {b"meta": 4, b"iinf": 6}.get(name, 0)
            _boxes(data, inner, min(at + size, end), found, depth + 1)
        else:
            found.numbers += [(place, 2, ">") for place in range(body, min(at + size, body + 60, end), 2)]
            found.numbers += [(place, 4, ">") for place in range(body, min(at + size, body + 60, end), 4)]
        if size < 8:
            return
        at += size


def _icc_at(at: int, found: Structure) -> None:
    found.numbers += [(at, 4, ">"), (at + 16, 4, ">"), (at + 128, 4, ">")]
    for entry in range(at + 132, at + 132 + 12 * 12, 12):
        found.numbers += [(entry, 4, ">"), (entry + 4, 4, ">"), (entry + 8, 4, ">")]


def _words(data: bytes, found: Structure) -> None:
    """Formats of one header: every number in it, of whatever width."""
    for order in "<>":
        for size in (1, 2, 4):
            found.numbers += [(place, size, order) for place in range(0, min(len(data), 132), size)]
    found.cuts += range(16, min(len(data), 132), 16)


def _svg(data: bytes, found: Structure) -> None:
    found.cuts += [match.start() for match in re.finditer(rb"[<>\"'= \[\]]", data[:4096])]


READERS: dict[str, Callable[[bytes, Structure], None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WEBP": _webp,
    "TIFF": _tiff,
    "HEIF": _iso,
    "AVIF": _iso,
    "JPEG2000": _iso,
    "SVG": _svg,
}


# Beginnings that sniffing has to tell apart, and words they are made of.
PROLOGUES: tuple[bytes, ...] = (
    *(b"%PDF-1.7\n", b"%!PS-Adobe", b"PK\x03\x04", b"\x1f\x8b\x08", b"GIF89a", b"\xff\xd8\xff", b"RIFF"),
    *(b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00\x08\x00\x00\x00", b"8BPS\x00\x01"),
    *(b"qoif", b"P6 ", b"Pf\n", b"<?xml version='1.0' encoding='utf-16'?>", b"<?xml ", b"?>", b"<!--"),
    *(b"-->", b"<!DOCTYPE svg [", b"]>", b"<svg ", b"<x:svg>", b"/>", b"[]"),
    *(b"<!ENTITY a SYSTEM 'file:///etc/passwd'>", b"viewBox='0 0 1e999 -1'", b" width='1e-400%'"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\x00\x00\x01\x00\x01\x00", b"\x01\xda\x01\x01\x00\x03"),
    *(b"\n\x05\x01\x08", b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\x00\x00\x00\x18ftypavif"),
    *(b"\x00\x00\x00\x18ftypheic", b"(\x00\x00\x00", b" ", b"\n#"),
)
