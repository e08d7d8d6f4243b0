"""libvips as the child uses it: nothing is kept between files, and the loaders that count as untrusted are blocked."""

import re
from functools import cache
from typing import Any

from PIL import Image

from tasks.errors import ImageError
from tasks.preparing.containers.container import Container, damaged
from tasks.preparing.containers.svg import on_canvas, read_svg, refers_outside, resized_svg, unpack_svg
from tasks.preparing.encoding import Raster
from tasks.preparing.prepare import decoded_by, planned_size
from tasks.types import ImageRules


@cache
def libvips() -> Any:
    """The module `pyvips`, set up; imported only where a file needs it."""
    import pyvips

    pyvips.cache_set_max(0)  # no file comes twice, and a cached one would stay in memory
    pyvips.block_untrusted_set(True)
    # librsvg counts as untrusted too. It draws from memory, in a process with limits and without a network address.
    pyvips.operation_block_set("VipsForeignLoadSvg", False)
    return pyvips


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


def shrunk(
    data: bytes, source_format: str, stored: tuple[int, int], target: tuple[int, int], *, rough: bool = False
) -> Image.Image | None:
    """The pixels at the target's size, not turned, in mode L or RGB; None where Pillow has to judge the file.

    `rough` is for people, who look at a small picture: a JPEG's decoder shrinks as far as it can. ImageError `damaged`
    for a JPEG of which a part is lost.
    """
    vips = libvips()
    shrink = _load_shrink(stored, target, 1 if rough else _MARGIN) if source_format == "JPEG" else 1
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


def _load_shrink(stored: tuple[int, int], target: tuple[int, int], margin: int) -> int:
    """The power of two by which a JPEG decoder is to shrink, which costs it less than not to."""
    factor = min(have / want for have, want in zip(stored, target, strict=True))
    if factor in (2, 4, 8):
        return decoded_by(int(factor))
    return max(shrink for shrink in (1, 2, 4, 8) if shrink == 1 or shrink * margin <= factor)


def _is_indexed(loaded: Any) -> bool:
    """Whether the pixels are a palette's or of fewer than 8 bits, which are worth trying as PNG (`encoding`)."""
    fields = loaded.get_fields()
    return "palette" in fields or ("bits-per-sample" in fields and loaded.get("bits-per-sample") != 8)


def draw_svg(data: bytes, rules: ImageRules) -> Raster:
    """The drawing on white at the size that is sent; `containers.svg` says what its own size is."""
    vips = libvips()
    text = unpack_svg(data)
    drawing = read_svg(text)
    try:
        if drawing.width and drawing.height:
            source = ink = drawing.width, drawing.height
        else:  # neither size nor view box: the drawing is as large as its ink
            inked = vips.Image.svgload_buffer(text.encode())
            ink = inked.width, inked.height
            source = on_canvas(*ink)
        target = planned_size(*source, rules)
        drawn = vips.Image.svgload_buffer(resized_svg(text, target, ink).encode())
        pixels = drawn.flatten(background=255).colourspace("srgb").write_to_memory()
    except vips.Error as error:
        raise ImageError("damaged", f"The SVG cannot be drawn: {_first_line(error)}") from error
    image = Image.frombytes("RGB", (drawn.width, drawn.height), pixels)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS)
    notes = ["links to other files were not followed"] if refers_outside(text) else []
    return Raster(image, "SVG", source, drawn=True, notes=notes)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "unknown error"
