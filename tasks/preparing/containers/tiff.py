"""TIFF's directories: the pages of a TIFF file, and the orientation in an EXIF block, which is a small TIFF."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.errors import ImageError
from tasks.preparing.containers.container import damaged, truncated

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _ORIENTATION = 254, 256, 257, 274
_WANTED = frozenset((_SUBFILE_TYPE, _WIDTH, _HEIGHT, _ORIENTATION, 0xB001))
_REDUCED_OR_MASK = 0b101  # a smaller copy or a transparency mask of another page
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_NUMBER_OF_IMAGES = 0xB001  # CIPA DC-007, Multi-Picture Format
_MAX_DIRECTORIES = 10_000
_MAX_TAGS = 400_000  # of all directories, which may lie over one another: 0.3 s at most


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a TIFF file: size as stored, EXIF orientation, and whether it is a picture of its own."""

    width: int
    height: int
    orientation: int
    own: bool
    index: int  # of the directory, which is what readers call a page


def tiff_pages(data: bytes) -> list[Directory]:
    """The pages of a TIFF file; thumbnails and masks count only in a file that holds nothing else."""
    pages = [_page(tags, index) for index, tags in enumerate(_directories(data))]
    pages = [page for page in pages if page.own] or pages
    if not pages:
        raise damaged("TIFF", "it has no page")
    return pages


def exif_orientation(block: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block; 1 where it says nothing or is damaged."""
    start = 6 if block.startswith(b"Exif\0\0") else 0
    try:
        tags = next(_directories(block[start:]), {})
    except ImageError:
        return 1
    return _orientation(tags)


def image_count(index: bytes) -> int:
    """How many images a Multi-Picture index, which is a small TIFF, says there are; 1 where it says nothing."""
    try:
        return next(_directories(index), {}).get(_NUMBER_OF_IMAGES, 1)
    except ImageError:
        return 1


def _page(tags: dict[int, int], index: int) -> Directory:
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    if not width or not height:
        raise damaged("TIFF", "a page has no size")
    return Directory(width, height, _orientation(tags), not tags.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK, index)


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _directories(data: bytes) -> Iterator[dict[int, int]]:
    """The integer tags of each directory, in order."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise damaged("TIFF", "its byte order is not given")
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        left = _MAX_TAGS
        while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(offset)
            count, tags, offset = _directory(data, offset, order, big)
            if (left := left - count) < 0:
                raise damaged("TIFF", f"its pages claim more than {_MAX_TAGS:,} tags")
            yield tags
    except struct.error as error:
        raise truncated("TIFF") from error


def _directory(data: bytes, offset: int, order: str, big: bool) -> tuple[int, dict[int, int], int]:
    """How many tags there are, the integers among them that count here, and where the next directory begins."""
    if offset > len(data):  # 64 bits hold more than any place in memory
        raise truncated("TIFF")
    count_code, entry_size, field_at, link = ("Q", 20, 12, "Q") if big else ("H", 12, 8, "I")
    (count,) = struct.unpack_from(order + count_code, data, offset)
    at = offset + struct.calcsize(order + count_code)
    if count > 4096:
        raise damaged("TIFF", f"a page claims {count} tags")
    tags = {}
    for entry in range(at, at + count * entry_size, entry_size):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in _INTEGERS and tag in _WANTED:
            (tags[tag],) = struct.unpack_from(order + _INTEGERS[kind], data, entry + field_at)
    return count, tags, struct.unpack_from(order + link, data, at + count * entry_size)[0]
