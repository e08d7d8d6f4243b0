"""Which files are images: by their first bytes, and, for a listing that has not read them, by their names."""

import re
import struct
import zlib

from tasks.errors import ImageError
from tasks.preparing.containers.container import foreign_bytes
from tasks.preparing.containers.svg import root_start

# What a listing takes for an image. Formats without a decoder here (JPEG XL) are listed too: they become a row that
# says so, never a silent omission.
IMAGE_EXTENSIONS = frozenset(
    """
    jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff heic heif hif heics heifs avif avifs svg svgz
    jp2 j2k jpf jpx j2c jpc ico cur psd tga ppm pgm pbm pnm pfm dds qoi jxl mpo sgi pcx
    """.split()  # noqa: SIM905
)

# The formats the API takes, and the media type it wants for each.
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"8BPS\x00\x01", "PSD"),
    (b"DDS \x7c\x00\x00\x00", "DDS"),
    (b"qoif", "QOI"),
)
_SGI = re.compile(rb"\x01\xda[\0\1][\1\2]\0[\1-\3]")  # coding, bytes a channel, dimensions
_PCX = re.compile(rb"\x0a[\0\2-\5][\0\1][\1\2\4\x08]")  # version, coding, bits
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # lengths of the header's versions
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_OTHER_THINGS = (
    (re.compile(rb"%PDF-"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or office document"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL), "a video"),
    (re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<\?xml"), "an XML document"),
    (re.compile(rb"%!PS"), "a PostScript document"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+\Z"), "text"),
)
SVG_PREFIX = 65_536  # bytes in which an SVG's root element is looked for


def is_image_name(name: str) -> bool:
    """Whether a file name has an image's extension, in upper or lower case."""
    stem, dot, extension = name.rpartition(".")
    return bool(dot) and bool(stem) and extension.lower() in IMAGE_EXTENSIONS


def sniff_format(data: bytes) -> str | None:
    """The image format that the first bytes say, such as `JPEG`; None for anything that is no image. Raises nothing."""
    try:
        with foreign_bytes("image"):
            return _by_magic(data) or _by_fields(data)
    except ImageError:
        return None


def _by_magic(data: bytes) -> str | None:
    """The format of a file with a magic number."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _iso_format(data)
    return "SGI" if _SGI.match(data) else "PCX" if _PCX.match(data) else None


def _by_fields(data: bytes) -> str | None:
    """The format of a file without one: what stands in several places must agree."""
    if data[:2] == b"\0\0" and data[2:4] in (b"\1\0", b"\2\0") and data[4:6] > b"\0\0":  # none in a Targa file
        return "ICO" if data[2] == 1 else "CUR"
    if re.match(rb"P[1-6][\s#]|P[fF]\s", data):
        return "PPM"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if int.from_bytes(data[:4], "little") in _BMP_HEADERS and _has_planes(data):
        return "DIB"
    if svg_text(data) is not None:
        return "SVG"
    return "TGA" if _is_targa(data) else None


def describe_other(data: bytes) -> str:
    """A few words on what bytes that are no image seem to be, for the error's message."""
    for pattern, words in _OTHER_THINGS:
        if pattern.match(data[:512]):
            return words
    return "of an unknown kind"


def svg_text(data: bytes) -> str | None:
    """The start of an SVG document as text, unpacked if it is gzipped; None if it is no SVG."""
    head = data[:SVG_PREFIX]
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, SVG_PREFIX)
        except zlib.error:
            return None
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    if encoding == "utf-8" and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"<":
        return None
    text = head.decode(encoding, errors="replace")
    return text if root_start(text) is not None else None


def _has_planes(data: bytes) -> bool:
    """Whether the header of a bitmap without its file's header has one plane and a known number of bits."""
    at = 8 if data[0] == 12 else 12  # after two sides of 16 or of 32 bits
    planes, bits = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "little")
    return planes == b"\1\0" and bits in (1, 4, 8, 16, 24, 32)


def _iso_format(data: bytes) -> str | None:
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[at : at + 4] for at in (8, *range(16, size, 4))]
    for brand in brands:  # the major brand first: a file may be compatible with both
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIF_BRANDS - {b"mif1", b"msf1"}:
            return "HEIF"
    return "HEIF" if not _HEIF_BRANDS.isdisjoint(brands) else None


def _is_targa(data: bytes) -> bool:
    """Targa has no magic number: every field of its header must make sense together."""
    if len(data) < 19:
        return False
    map_type, kind, map_length, map_bits = struct.unpack_from("<xBBxxHB", data)
    width, height, bits, flags = struct.unpack_from("<HHBB", data, 12)
    if kind not in (1, 2, 3, 9, 10, 11) or not width or not height or flags & 0xC0 or flags & 0x0F not in (0, 1, 8):
        return False
    if kind in (1, 9):
        return map_type == 1 and map_length > 0 and map_bits in (15, 16, 24, 32) and bits == 8
    allowed = (8, 16) if kind in (3, 11) else (15, 16, 24, 32)
    return map_type == 0 and map_length == 0 and map_bits == 0 and bits in allowed
