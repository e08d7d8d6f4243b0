"""No file hangs the parent, takes much of it, or leaves a parser by anything but an ImageError."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from time import thread_time
from typing import NoReturn

import pytest

from tasks.errors import ImageError
from tasks.preparing import image_header, prepare_image, sniff_format
from tasks.preparing.containers.container import PARENT_BYTES, PARENT_PARTS, foreign_bytes
from tasks.preparing.containers.svg import read_root
from tasks.types import ImageRules
from tests.golden import SIZE, saved, target
from tests.image_writers import icc_profile, png_chunk

OCR = ImageRules(max_edge=2048, quality=95, model_edge=2576, model_tokens=4784, seconds=20)
SECOND = 1.0  # of one processor, whatever else the machine does
PARENT_MEMORY = 48_000_000  # besides the file itself: a copy of what is read of it, and lists of its parts


def segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, 2 + len(body)) + body


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def photo_with(kind: int, body: bytes) -> bytes:
    return JPEG + segment(kind, body) + saved(target(), "JPEG")[2:]


def far_away(order: str) -> bytes:
    """A BigTIFF whose directory lies at 2 ** 63."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, 2**63)


def repeated(piece: bytes, size: int = 40_000_000) -> bytes:
    return piece * (size // len(piece))


def overlapping_directories() -> bytes:
    """Four thousand directories of four thousand tags, in 60 kB: each lies 12 bytes behind the one before."""
    tags, count = 4000, 1000
    data = bytearray(b"II*\0\x08\0\0\0" + bytes(12 * (tags + count) + 100))
    for number in range(count):
        at = 8 + 12 * number
        struct.pack_into("<H", data, at, tags)
        struct.pack_into("<I", data, at + 2 + 12 * tags, at + 12)
    return bytes(data)


def packed(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def sRGB_with_slack() -> bytes:  # noqa: N802
    """A profile that is sRGB, and a megabyte long once unpacked."""
    primaries = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))
    return zlib.compress(icc_profile(primaries, 2.2) + bytes(1_000_000), 9)


def heif_with(meta: bytes) -> bytes:
    return box(b"ftyp", b"heic" + bytes(4) + b"heic") + box(b"meta", bytes(4) + meta)


JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
IHDR = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
PROFILE_TEXT = b"Raw profile type exif\0"
HEXADECIMAL = b"\nexif\n  60000\n" + (b"4500" * 30_000)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "brackets in a DOCTYPE": lambda: b"<!DOCTYPE " + b"[]" * 60,
    "many brackets in a DOCTYPE": lambda: b"<!DOCTYPE " + b"[]" * 30_000,
    "open comments": lambda: b"<!DOCTYPE svg [" + b"<!--" * 16_000,
    "prolog without end": lambda: repeated(b"<?x?><!-- -->", 65_000),
    "many roots": lambda: b"<svg " + b"<svg " * 13_000,
    "root of quotes": lambda: b"<svg " + b"\"'" * 32_000,
    "root of names": lambda: b"<svg " + b"a" * 65_000,
    "digits": lambda: b'<svg width="' + b"1" * 60_000 + b'!">',
    "spaces in a view box": lambda: b'<svg viewBox="' + b" " * 60_000 + b'x">',
    "spaces before =": lambda: b"<svg " + (b"width" + b" " * 500) * 100 + b">",
    "EXIF at 2**63": lambda: JPEG + segment(0xE1, b"Exif\0\0" + far_away("<")) + saved(target(), "JPEG")[2:],
    "EXIF at 2**63, big-endian": lambda: (
        JPEG + segment(0xE1, b"Exif\0\0" + far_away(">")) + saved(target(), "JPEG")[2:]
    ),
    "PNG with EXIF at 2**63": lambda: PNG + IHDR + png_chunk(b"eXIf", far_away("<")),
    "WebP with EXIF at 2**63": lambda: saved(target(), "WEBP", exif=far_away("<")),
    "TIFF of 16 bytes": lambda: far_away("<"),
    "TIFF of 16 bytes, big-endian": lambda: far_away(">"),
    "TIFF that claims 2**63 tags": lambda: b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + struct.pack("<Q", 2**63),
    "overlapping directories": overlapping_directories,
    "empty segments": lambda: JPEG + repeated(b"\xff\xe0\0\2"),
    "filling": lambda: JPEG + repeated(b"\xff"),
    "garbage between segments": lambda: JPEG + repeated(b"\xff\xe0\0\2\0"),
    "EXIF again and again": lambda: JPEG + repeated(segment(0xE1, b"Exif\0\0" + full_directory())),
    "stuffed zeros": lambda: saved(target(), "JPEG")[:-2] + repeated(b"\xff\0"),
    "index of many images": lambda: photo_with(0xE2, b"MPF\0" + far_away("<")),
    "empty chunks": lambda: PNG + IHDR + repeated(png_chunk(b"abcd", b"")),
    "texts that unpack": lambda: (
        PNG + IHDR + repeated(png_chunk(b"zTXt", b"Raw profile type exif\0\0" + packed(10**6)))
    ),
    "texts of digits": lambda: PNG + IHDR + repeated(png_chunk(b"tEXt", PROFILE_TEXT + HEXADECIMAL)),
    "words": lambda: PNG + IHDR + png_chunk(b"tEXt", PROFILE_TEXT + repeated(b"a ")),
    "profiles that unpack": lambda: PNG + IHDR + repeated(png_chunk(b"iCCP", b"p\0\0" + sRGB_with_slack())),
    "blocks of one byte": lambda: b"GIF89a\1\0\1\0\0\0\0!\xfe" + repeated(b"\1x"),
    "empty frames": lambda: b"GIF89a\1\0\1\0\0\0\0" + repeated(b",\0\0\0\0\1\0\1\0\0\2\0"),
    "RIFF chunks": lambda: b"RIFF" + struct.pack("<I", 40_000_000) + b"WEBP" + repeated(b"abcd\0\0\0\0"),
    "profile of tags": lambda: b"RIFF\xff\xff\xff\xffWEBPICCP" + struct.pack("<I", 40_000_000) + greedy_profile(),
    "boxes": lambda: box(b"ftyp", b"heic" + bytes(4) + b"heic") + repeated(box(b"free", b"")),
    "boxes in boxes": lambda: heif_with(
        box(b"pitm", bytes(6)) + box(b"iprp", box(b"ipco", repeated(box(b"free", b""))))
    ),
    "associations": lambda: heif_with(
        box(b"pitm", bytes(4) + b"\1\1")
        + box(b"iprp", box(b"ipco", b"") + box(b"ipma", bytes(4) + b"\0\1\0\0" + repeated(b"\0\0\xff" + b"\1" * 255)))
    ),
    "comment in a PPM": lambda: b"P6 " + repeated(b"#\n"),
    "a JPEG 2000 of nothing": lambda: b"\x00\x00\x00\x0cjP  \r\n\x87\n" + repeated(b"ihd"),
    "gzip of nothing": lambda: b"\x1f\x8b\x08\0\0\0\0\0\0\3" + packed(10**7)[2:],
    "DOCTYPE in a gzip": lambda: gzip_of(b"<!DOCTYPE " + b"[]" * 30_000),
}


def full_directory() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 4096) + struct.pack("<HHII", 1, 3, 1, 1) * 4096 + bytes(4)


def greedy_profile() -> bytes:
    """A hundred tags of one profile, each of all its bytes."""
    table = b"".join(struct.pack(">4sII", b"t%03d" % number, 0, 40_000_000) for number in range(100))
    return (bytes(16) + b"RGB ").ljust(128, b"\0") + struct.pack(">I", 100) + table + bytes(39_000_000)


def gzip_of(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(text) + packer.flush()


def ask_nothing_of_the_child(*_: object) -> NoReturn:
    raise ImageError("left_to_the_child", "The child has limits of its own.")


READERS: tuple[Callable[[bytes], object], ...] = (sniff_format, image_header, lambda data: prepare_image(data, OCR))


@pytest.mark.parametrize("name", HOSTILE)
def test_the_parent_is_not_held_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing sniffs, an estimate reads headers, a run prepares: whatever becomes of the file, it is quick and said."""
    monkeypatch.setattr("tasks.preparing.prepare.decode_in_child", ask_nothing_of_the_child)
    data = HOSTILE[name]()
    for read in READERS:
        start = thread_time()
        outcome(read, data)
        assert thread_time() - start < SECOND


@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"blocks of one byte", "EXIF again and again"}))
def test_the_parent_is_not_filled_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for two that would take minutes to trace, and keep nothing."""
    monkeypatch.setattr("tasks.preparing.prepare.decode_in_child", ask_nothing_of_the_child)
    data = HOSTILE[name]()
    tracemalloc.start()
    try:
        for read in READERS:
            outcome(read, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < PARENT_MEMORY


def outcome(read: Callable[[bytes], object], data: bytes) -> None:
    """Read; an ImageError is an answer. Anything else fails the test."""
    with suppress(ImageError):
        read(data)


@pytest.mark.parametrize("name", ["EXIF at 2**63", "EXIF at 2**63, big-endian", "index of many images"])
def test_a_photo_with_a_hostile_block_is_still_a_photo(name: str) -> None:
    (page,) = prepare_image(HOSTILE[name](), OCR)
    assert (page.width, page.height) == SIZE


def test_a_file_too_long_for_the_parent_is_judged_by_the_child() -> None:
    """Ten megabytes of comments before a photo, and of pieces nobody writes: decoders read both."""
    photo = saved(target(), "JPEG")
    comments = segment(0xFE, bytes(60_000)) * 170
    assert len(comments) > PARENT_BYTES
    (page,) = prepare_image(JPEG + comments + photo[2:], OCR)
    assert (page.width, page.height) == SIZE
    (page,) = prepare_image(JPEG + segment(0xFE, b"") * (PARENT_PARTS + 1) + photo[2:], OCR)
    assert (page.width, page.height) == SIZE


def test_garbage_that_decoders_skip_is_no_end() -> None:
    photo = saved(target(), "JPEG")
    (page,) = prepare_image(photo[:20] + b"abc" + photo[20:], OCR)
    assert (page.width, page.height) == SIZE


def test_whatever_a_parser_raises_leaves_it_as_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OverflowError("too large"), RecursionError(), KeyError("x"), MemoryError(), ZeroDivisionError()):
        with pytest.raises(ImageError), foreign_bytes("TIFF"):
            raise error


def test_the_drawings_root_is_found_as_xml_has_it() -> None:
    text = (
        "\ufeff <?xml version='1.0'?><!-- <svg width='1'> -->\n<!DOCTYPE svg PUBLIC \"a>b\" 'c' [\n"
        "<!ENTITY a \"]> <svg>\"> <!-- ' ]> --> ]>\n<s:svg title=\"width='7' >\" width = '20' "
        "viewBox=\"0 0 1 1\" width='9'/>"
    )
    root = read_root(text)
    assert root is not None
    assert root.get("width") == "20"
    assert root.get("viewBox") == "0 0 1 1"
    assert text[root.end :] == "/>"
    for other in ("", "<svgs>", "<!DOCTYPE html><html><svg>", "<svg", "<svg width='1>", "text <svg>", "<?x <svg>"):
        assert read_root(other) is None
