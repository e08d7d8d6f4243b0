"""Writers for the awkward images that Pillow does not write: the bytes are laid out here, one format a function."""

import base64
import struct
import zlib
from collections.abc import Iterable

HEVC_SIZE = (96, 64)
# One HEVC still of the four-colour target of `golden`, 96 x 64 pixels, and its decoder configuration. Drawn for this
# project and encoded once: nothing that may be installed here encodes HEVC.
_HEVC_CONFIG = base64.b64decode(
    "AQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubg"
    "IaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQA=="
)
_HEVC_IMAGE = base64.b64decode(
    "AAAAuigBrwng40ecuq///oxv//4Rp5D9ri6kglJ55jhH+CMf/4nKrqQu9Tb4RejAbfkoRLtAbfyrHPhZmaqJWXHxddQbj70onBGAwhjcZ61eNW//5A"
    "EQH8uz3f/CXqw2qDF+NQe4N87pJV433pjTGIJs5fXQkBGwzcECf+HNif7u48oSfcU0aOHz8cRNmkc4bD2FXm7+2ZznxkHn9po2+88B9mpMC2evsZJM"
    "rzfIfgc/i3/g2e0nbOX/+0l/gA=="
)
# The same target as an arithmetic-coded JPEG, made with `cjpeg -arithmetic`: Pillow reads but does not write them.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQ"
    "YEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCABAAGAD"
    "AREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AC2uHU3S+y1SdvVUDp2FiKKlDB4vwPW3+Ugw24m59aAJUhph0b78zIfUFQCLyIK4"
    "XCYgJJ3E/pZtFqTPHz33cEy1S/dYEQr2pPHG/9k="
)

# For each EXIF orientation the quarter turns against the clock, and the mirror after them: 0 upside down, 1 left-right.
_ISO_TURNS = {1: (0, None), 2: (0, 1), 3: (2, None), 4: (0, 0), 5: (1, 0), 6: (3, None), 7: (3, 0), 8: (1, None)}


def exif_block(orientation: int) -> bytes:
    """An EXIF block with an orientation, a camera, and the place where the picture was taken."""
    model = b"SecretCam 9000\0"
    gps = struct.pack("<H", 2) + struct.pack("<HHI4s", 1, 2, 2, b"N\0\0\0") + struct.pack("<HHI4s", 3, 2, 2, b"E\0\0\0")
    at = 8 + 2 + 3 * 12 + 4
    entries = struct.pack("<HHII", 0x0110, 2, len(model), at)
    entries += struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    entries += struct.pack("<HHII", 0x8825, 4, 1, at + len(model) + 1)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + entries + bytes(4) + model + b"\0" + gps + bytes(4)


def png(
    width: int, height: int, rows: Iterable[bytes], *, depth: int = 8, colour: int = 2, interlaced: bool = False
) -> bytes:
    """A PNG of rows that carry their filter byte."""
    packer = zlib.compressobj(9)
    pixels = b"".join([packer.compress(row) for row in rows] + [packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def interlaced_png(width: int, height: int, pixels: bytes) -> bytes:
    """An Adam7 interlaced RGB PNG."""
    rows = []
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        for y in range(top, height, down):
            row = [pixels[3 * (y * width + x) : 3 * (y * width + x) + 3] for x in range(left, width, across)]
            rows.append(b"\0" + b"".join(row))
    return png(width, height, rows, interlaced=True)


def tiff(
    width: int, height: int, pixels: bytes, *, bits: tuple[int, ...], photometric: int, sample_format: int = 1
) -> bytes:
    """An uncompressed little-endian TIFF of one strip."""
    entries = [
        (256, 3, (width,)),
        (257, 3, (height,)),
        (258, 3, bits),
        (259, 3, (1,)),
        (262, 3, (photometric,)),
        (273, 4, (8,)),
        (277, 3, (len(bits),)),
        (278, 3, (height,)),
        (279, 4, (len(pixels),)),
        (339, 3, (sample_format,) * len(bits)),
    ]
    at = 8 + len(pixels)
    spare_at, fields, spare = at + 2 + 12 * len(entries) + 4, b"", b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, spare = struct.pack("<I", spare_at + len(spare)), spare + packed
        fields += struct.pack("<HHI4s", tag, kind, len(values), packed.ljust(4, b"\0"))
    return b"II*\0" + struct.pack("<I", at) + pixels + struct.pack("<H", len(entries)) + fields + bytes(4) + spare


def psd(width: int, height: int, planes: bytes) -> bytes:
    """A flat RGB Photoshop file."""
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3)
    return header + bytes(12) + b"\0\0" + planes


def heic(orientation: int = 1, *, images: int = 1) -> bytes:
    """A HEIC file of the four-colour target, turned by its container; further images are the same one again."""
    turns, mirror = _ISO_TURNS[orientation]
    properties = [_box(b"hvcC", _HEVC_CONFIG), _full_box(b"ispe", struct.pack(">II", *HEVC_SIZE))]
    properties += [_box(b"irot", bytes([turns]))] if turns else []
    properties += [_box(b"imir", bytes([mirror]))] if mirror is not None else []
    used = bytes([0x81, 2, *range(0x83, 0x81 + len(properties))])  # the high bit: must be understood
    items = range(1, images + 1)
    associations = b"".join(struct.pack(">HB", item, len(used)) + used for item in items)
    entries = b"".join(_full_box(b"infe", struct.pack(">HH4sB", item, 0, b"hvc1", 0), version=2) for item in items)
    head = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

    def meta(offset: int) -> bytes:
        places = b"".join(struct.pack(">HHHII", item, 0, 1, offset, len(_HEVC_IMAGE)) for item in items)
        return _full_box(
            b"meta",
            _full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full_box(b"pitm", struct.pack(">H", 1))
            + _full_box(b"iloc", struct.pack(">BBH", 0x44, 0, images) + places)
            + _full_box(b"iinf", struct.pack(">H", images) + entries)
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(properties)) + _full_box(b"ipma", struct.pack(">I", images) + associations),
            ),
        )

    offset = len(head) + len(meta(0)) + 8
    return head + meta(offset) + _box(b"mdat", _HEVC_IMAGE)


def icc_profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """An RGB matrix profile: the XYZ of red, green and blue under D50, and one gamma."""
    curve = b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    tags = {name: _xyz(*values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    tags |= {b"wtpt": _xyz(0.9642, 1.0, 0.8249), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {b"desc": b"desc" + struct.pack(">4xI5s79x", 5, b"test\0"), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(tag))
        body += tag.ljust(-(-len(tag) // 4) * 4, b"\0")
    size = 128 + len(table) + len(body)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp").ljust(
        68, b"\0"
    )
    return (header + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in (x, y, z)))


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full_box(name: bytes, body: bytes, *, version: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24) + body)
