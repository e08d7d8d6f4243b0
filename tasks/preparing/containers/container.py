"""What the containers of the formats that the API takes have in common."""

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
