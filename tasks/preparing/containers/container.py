"""What the containers of the formats that the API takes have in common: parts, EXIF and TIFF directories, ICC profiles.

Whether a profile is sRGB is judged by its numbers and not by its name.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks.errors import ImageError

Piece = bytes | memoryview

# What the parent reads of one file. No request holds more than 7.5 MB of image, and the worst that so many bytes were
# made to hold took 0.3 s. A file with more of either is left to the child, which its clock stops.
PARENT_BYTES = 8_000_000
PARENT_PARTS = 20_000

# Red, green and blue of sRGB adapted to D50, as sRGB profiles state them (https://www.color.org/srgb.pdf).
_SRGB_PRIMARIES = {
    b"rXYZ": (0.4360, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7139),
}
_TOLERANCE = 0.006  # below what an 8-bit channel shows, above the rounding found in profiles in use
_SAMPLES = (0.25, 0.5, 0.75)

_SUBFILE_TYPE, _WIDTH, _HEIGHT, _ORIENTATION = 254, 256, 257, 274
_WANTED = frozenset((_SUBFILE_TYPE, _WIDTH, _HEIGHT, _ORIENTATION, 0xB001))
_REDUCED_OR_MASK = 0b101  # a smaller copy or a transparency mask of another page
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_NUMBER_OF_IMAGES = 0xB001  # CIPA DC-007, Multi-Picture Format
_MAX_DIRECTORIES = 10_000
_MAX_TAGS = 400_000  # of all directories, which may lie over one another: 0.3 s at most


@dataclass(slots=True)
class Container:
    """A JPEG, PNG, GIF or WebP file as far as its bytes go; `width` and `height` are as stored, before orientation.

    `pieces` joined are the file without metadata and without anything after its end: the same pixels, to the bit.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    frames: int = 1
    alpha: bool = False
    plain: bool = True  # 8 bits a channel, grey or RGB, in sRGB, in a coding that every decoder knows
    complete: bool = False  # the end of the image is there
    intact: bool = True  # checksums, where the format has them, are right
    others: int = 0  # images behind the end of this one (a second lens, a gain map), which are left out
    pieces: list[Piece] = field(default_factory=list)

    def stripped(self) -> bytes:
        """The file with nothing but its image."""
        return b"".join(self.pieces)


@contextmanager
def foreign_bytes(what: str) -> Iterator[None]:
    """The boundary of every parser: whatever bytes make it raise, only ImageError leaves it."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too_large", f"Reading the {what} file's header takes more memory than there is") from error
    except (struct.error, IndexError, EOFError) as error:
        raise truncated(what) from error
    except Exception as error:  # whatever foreign numbers lead to: overflow, division by zero, recursion
        raise damaged(what, f"its header makes no sense ({type(error).__name__})") from error


def truncated(what: str) -> ImageError:
    """The error of a file that ends too early."""
    return ImageError("truncated", f"The {what} file is cut short: it ends before the image does")


def damaged(what: str, detail: str) -> ImageError:
    """The error of a file whose structure makes no sense."""
    return ImageError("damaged", f"The {what} file is damaged: {detail}")


def xmp_orientation(xmp: bytes) -> int:
    """The EXIF orientation that an XMP packet repeats; 1 if it says nothing."""
    found = re.search(rb"tiff:Orientation(?:=\"|>)\s*([1-8])", xmp)
    return int(found[1]) if found else 1


def is_srgb(profile: bytes) -> bool:
    """Whether colours under this profile mean what they mean in sRGB, to within about one step of 255."""
    try:
        tags = _tags(profile)
        if profile[16:20] == b"GRAY":
            return _is_srgb_curve(tags[b"kTRC"])
        if profile[16:20] != b"RGB " or b"A2B0" in tags:
            return False
        primaries = all(_near(_xyz(tags[name]), expected) for name, expected in _SRGB_PRIMARIES.items())
        return primaries and all(_is_srgb_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except Exception:  # noqa: BLE001  # a profile is foreign bytes too; whatever it trips over, it is not sRGB
        return False


def _tags(profile: bytes) -> dict[bytes, memoryview]:
    """The tags by name; views, for a hundred may each claim the whole file."""
    view = memoryview(profile)
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 100))]
    return {name: view[offset : offset + size] for name, offset, size in entries}


def _xyz(tag: memoryview) -> tuple[float, ...]:
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _near(values: tuple[float, ...], expected: tuple[float, ...]) -> bool:
    return all(abs(value - target) <= _TOLERANCE for value, target in zip(values, expected, strict=True))


def _is_srgb_curve(tag: memoryview) -> bool:
    return all(abs(_curve(tag, value) - _srgb(value)) <= _TOLERANCE for value in _SAMPLES)


def _srgb(value: float) -> float:
    return float(((value + 0.055) / 1.055) ** 2.4)


def _curve(tag: memoryview, value: float) -> float:
    """The tone curve of a `curv` or `para` tag at one point."""
    if bytes(tag[:4]) == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        count = (1, 3, 4, 5, 7)[kind]
        numbers = [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]
        gamma, a, b = (*numbers[:3], 1.0, 0.0)[:3] if count >= 3 else (numbers[0], 1.0, 0.0)
        lift = {2: 3, 4: 5}.get(kind)  # the samples lie above the straight part of the curve
        return float((a * value + b) ** gamma + (numbers[lift] if lift else 0.0))
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return value
    if count == 1:
        return float(value ** (struct.unpack_from(">H", tag, 12)[0] / 256))
    at = value * (count - 1)
    low, high = struct.unpack_from(">2H", tag, 12 + 2 * int(at))
    return float((low + (high - low) * (at - int(at))) / 65535)


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
