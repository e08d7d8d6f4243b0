"""What tells of a file's damage without decoding it, and whether a decoder has to be asked, because it would tell more.

A file that goes as it is should not be a damaged one: an endpoint refuses it, or answers about half a picture for
money. PNG has checksums. WebP, GIF and progressive JPEG are coded so that a decoder stumbles over much of the damage. A
baseline JPEG is not: whatever the bits, they mean something. Its structure tells more than its decoder, for a fortieth
of the work. README.md ("Damaged files") has what was measured.
"""

import re
from dataclasses import dataclass, field

from tasks.preparing.containers.container import Container, Piece, damaged, truncated

_BASELINE = (0xC0, 0xC1)
_DHT, _EOI, _SOS, _DQT, _DRI, _APP0, _APP14 = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE
_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")
_HOLE = bytes(128)  # more zeros than any five blocks could take
_AC, _END_OF_BLOCK = 0x10, 0


def must_be_decoded(container: Container, name: str) -> bool:
    """Whether a whole, ready file could still be damaged in a way that its decoder would notice.

    ImageError `damaged` where no decoder has to be asked any more.
    """
    if name == "JPEG":
        return not _is_regular_jpeg(container)
    return name != "PNG"


def check_holes(container: Container) -> bool:
    """Whether a JPEG has no stretch of zeros, as lost disk blocks leave; ImageError where they cannot be its own.

    Zeros are codes too: of flat blocks, where the tables say so. Elsewhere each block would have 63 equal waves.
    """
    tables, whole = _Tables(), True
    for piece in container.pieces[1:]:
        kind = piece[1]
        if kind == _DHT:
            tables.take_codes(bytes(piece[4:]))
        elif kind == _SOS:
            coded = bytes(piece)
            at = coded.find(_HOLE)
            whole = whole and at < 0
            if at >= 0 and not container.complete and coded.endswith(_HOLE):
                raise truncated("JPEG")
            if at >= 0 and tables.zeros_end_no_block and coded[at:].lstrip(b"\0"):  # what pads the end harms nobody
                raise damaged("JPEG", "zeros stand where a part of the image was")
        elif 0xC0 <= kind <= 0xCF and kind not in _BASELINE:
            return True  # in a progressive file zeros can be corrections; its decoder is asked
    return whole


@dataclass(slots=True)
class _Tables:
    """Tables and components that a JPEG has defined so far, as far as a scan refers to them."""

    quantisers: set[int] = field(default_factory=set)
    first_symbols: dict[int, int] = field(default_factory=dict)  # of each code table: what zero bits mean
    quantiser_of: dict[int, int] = field(default_factory=dict)  # by component
    restart_interval: int = 0

    @property
    def zeros_end_no_block(self) -> bool:
        return any(symbol != _END_OF_BLOCK for table, symbol in self.first_symbols.items() if table & _AC)

    def take_quantisers(self, body: bytes) -> bool:
        """Whether the segment is whole (ITU T.81, B.2.4.1)."""
        at = 0
        while at < len(body):
            self.quantisers.add(body[at] & 15)
            at += 1 + 64 * (1 + (body[at] >> 4))
        return at == len(body)

    def take_codes(self, body: bytes) -> bool:
        """Whether the segment is whole and there are enough codes of each length (B.2.4.2)."""
        at, fits = 0, True
        while at + 17 <= len(body):
            table, counts, free = body[at], body[at + 1 : at + 17], 1
            for count in counts:
                free = 2 * free - count
                fits = fits and free >= 0
            if any(counts) and at + 17 < len(body):
                self.first_symbols[table] = body[at + 17]
            at += 17 + sum(counts)
        return fits and at == len(body)

    def take_frame(self, body: bytes) -> bool:
        """Whether every component has a possible size (B.2.2)."""
        parts = [body[at : at + 3] for at in range(6, len(body), 3)]
        self.quantiser_of = {part[0]: part[2] for part in parts if len(part) == 3}
        sizes = all(1 <= part[1] >> 4 <= 4 and 1 <= part[1] & 15 <= 4 for part in parts if len(part) == 3)
        return len(body) == 6 + 3 * body[5] and len(self.quantiser_of) == body[5] and sizes

    def has_what_is_used(self, header: bytes) -> bool:
        """Whether one scan holds all components, and their tables are there (B.2.3)."""
        parts = [header[at : at + 2] for at in range(1, len(header) - 4, 2)]
        return (
            len(header) > 4
            and len(header) == 4 + 2 * header[0]
            and [part[0] for part in parts] == list(self.quantiser_of)
            and self.quantisers.issuperset(self.quantiser_of.values())
            and all({part[1] >> 4, _AC | part[1] & 15} <= self.first_symbols.keys() for part in parts)
        )


def _is_regular_jpeg(container: Container) -> bool:
    """Whether a baseline JPEG consists of what it must consist of, in order."""
    tables, scans = _Tables(), 0
    for piece in container.pieces[1:]:
        kind = piece[1]
        if kind == _SOS:
            scans += 1
            regular = _is_regular_scan(piece, tables)
        elif kind in (_APP0, _APP14, _EOI):
            regular = True
        else:
            regular = _take(tables, kind, bytes(piece[4:]))
        if not regular:
            return False
    return scans == 1 and check_holes(container)


def _take(tables: _Tables, kind: int, body: bytes) -> bool:
    if kind == _DQT:
        return tables.take_quantisers(body)
    if kind == _DHT:
        return tables.take_codes(body)
    if kind in _BASELINE:
        return tables.take_frame(body)
    if kind == _DRI and len(body) == 2:
        tables.restart_interval = int.from_bytes(body, "big")
        return True
    return False


def _is_regular_scan(piece: Piece, tables: _Tables) -> bool:
    start = 2 + int.from_bytes(piece[2:4], "big")
    if not tables.has_what_is_used(bytes(piece[4:start])):
        return False
    # Looked for only where there should be some: that takes longer than all the rest.
    restarts = _RESTARTS.findall(piece, start) if tables.restart_interval else []
    return all(ord(marker) - 0xD0 == number % 8 for number, marker in enumerate(restarts))
