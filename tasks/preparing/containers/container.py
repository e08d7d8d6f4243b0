"""What the containers of the formats that the API takes have in common."""

import re
from dataclasses import dataclass, field

from tasks.errors import ImageError

Piece = bytes | memoryview


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
    pieces: list[Piece] = field(default_factory=list)

    def stripped(self) -> bytes:
        """The file with nothing but its image."""
        return b"".join(self.pieces)


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
