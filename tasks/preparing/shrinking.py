"""Shrink plain images with libvips, in about half Pillow's time. Runs in the child process only.

libvips takes what is common: opaque 8-bit grey or RGB as JPEG or PNG. Whatever it stumbles over is left to Pillow,
which knows more kinds of files and has the last word on whether one is damaged. `tests/benchmark/preparing.py` compares
the two.
"""

import re
from typing import Any

from PIL import Image

from tasks.preparing.containers.container import Container, damaged
from tasks.preparing.sizes import decoded_by
from tasks.preparing.vips import libvips

_LOADERS = {"JPEG": "jpegload_buffer", "PNG": "pngload_buffer"}
_MODES = {1: "L", 3: "RGB"}
# Warnings of libjpeg that tell of pixels that are not the image's. It goes on with grey, and Pillow does not say so.
# Others, such as `extraneous bytes before marker`, are of files that look as they should.
_LOST = re.compile(
    r"premature end of data segment|bad Huffman code|Inconsistent progression|found marker \w+ instead of RST\d"
    r"|\d+ extraneous bytes before marker 0xd[0-7]"  # before a restart, where there is no room for junk
)
_MARGIN = 2  # a JPEG decoded at no less than twice the target keeps thin strokes as a full decode does


def is_plain(container: Container, source_format: str) -> bool:
    """Whether nothing but shrinking is left to do: no colours to convert, no transparency, no second frame."""
    return (
        source_format in _LOADERS
        and container.plain
        and container.complete
        and container.intact
        and container.frames == 1
        and not container.alpha
    )


def shrunk(data: bytes, source_format: str, stored: tuple[int, int], target: tuple[int, int]) -> Image.Image | None:
    """The pixels at the target's size, not turned, in mode L or RGB; None where Pillow has to judge the file.

    ImageError `damaged` for a JPEG of which a part is lost.
    """
    vips = libvips()
    shrink = _load_shrink(stored, target) if source_format == "JPEG" else 1
    options = {"shrink": shrink} if shrink > 1 else {}
    # Of the stored size, not of the loaded one: a decoder that shrinks drops the last line of an odd side. What that
    # leaves is a shift by at most a quarter of a pixel.
    across, down = (shrink * want / have for have, want in zip(stored, target, strict=True))
    try:
        # `thumbnail_buffer` would do it all but takes no notice of `fail_on`: it fills up cut files with grey.
        loaded = getattr(vips.Image, _LOADERS[source_format])(data, access="sequential", fail_on="warning", **options)
        if loaded.format != "uchar" or loaded.bands not in _MODES or _is_indexed(loaded):
            return None
        if across == down == 1:
            small = loaded
        elif across == down == 1 / 2:
            small = loaded.shrink(2, 2)
        else:
            small = loaded.resize(across, vscale=down, kernel="lanczos3")
        pixels = small.write_to_memory()
    except vips.Error as error:
        _refuse_lost(source_format, error)
        return None
    if (small.width, small.height) != target:
        return None
    mode = _MODES[small.bands]
    return Image.frombuffer(mode, target, pixels, "raw", mode, 0, 1)


def decodes_cleanly(data: bytes) -> bool:
    """Whether libvips decodes a JPEG without a word; ImageError `damaged` where a part is lost, else Pillow judges."""
    vips = libvips()
    try:
        vips.Image.jpegload_buffer(data, access="sequential", fail_on="warning", shrink=8).write_to_memory()
    except vips.Error as error:
        _refuse_lost("JPEG", error)
        return False
    return True


def _refuse_lost(source_format: str, error: Exception) -> None:
    if lost := _LOST.search(str(error)):
        raise damaged(source_format, lost[0]) from error


def _load_shrink(stored: tuple[int, int], target: tuple[int, int]) -> int:
    """The power of two by which a JPEG decoder is to shrink, which costs it less than not to."""
    factor = min(have / want for have, want in zip(stored, target, strict=True))
    if factor in (2, 4, 8):
        return decoded_by(int(factor))
    return max(shrink for shrink in (1, 2, 4, 8) if shrink == 1 or shrink * _MARGIN <= factor)


def _is_indexed(loaded: Any) -> bool:
    """Whether the pixels are a palette's or of fewer than 8 bits, which are worth trying as PNG (`encoding`)."""
    fields = loaded.get_fields()
    return "palette" in fields or ("bits-per-sample" in fields and loaded.get("bits-per-sample") != 8)
