"""The second reader, libvips, of what Pillow refuses: rare kinds of TIFF, and files with junk in them.

Runs in the child process only. It says of a file that it cannot read whether it could at least be opened, which is what
tells a damaged file from one of a kind that nothing here decodes.
"""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from tasks.preparing.encoding import Raster
from tasks.preparing.headers import oriented
from tasks.preparing.pool import MEMORY_BYTES
from tasks.preparing.prepare import check_pixels, planned_size
from tasks.preparing.vips import libvips
from tasks.types import ImageRules

_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "GIF": "gifload_buffer",
    "WEBP": "webpload_buffer",
    "TIFF": "tiffload_buffer",
    "AVIF": "heifload_buffer",
}
# Spaces in which libvips knows what the numbers mean; any other numbers are stretched between black and white.
_KNOWN = {
    ("uchar", "b-w"),
    ("uchar", "srgb"),
    ("uchar", "cmyk"),
    ("ushort", "cmyk"),
    ("ushort", "grey16"),
    ("ushort", "rgb16"),
    ("float", "lab"),
    ("short", "labs"),
    ("float", "xyz"),
    ("float", "scrgb"),
}
_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2}  # of one number; any other takes 4 or 8
_NOTE = "read by libvips"


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of it: the page, or, without one, whether the file could be opened."""

    raster: Raster | None
    opened: bool


def read_again(data: bytes, source_format: str, rules: ImageRules, *, page: int = 0, orientation: int = 1) -> Reading:
    """The page as libvips reads it, shrunk and not yet turned. ImageError `too_many_pixels`, MemoryError."""
    if source_format not in _LOADERS:
        return Reading(None, opened=False)
    vips = libvips()
    options: dict[str, Any] = {"page": page} if page else {}
    try:
        image = getattr(vips.Image, _LOADERS[source_format])(data, fail_on="error", **options)
    except vips.Error:
        return Reading(None, opened=False)
    check_pixels(image.width, image.height, rules)
    if image.width * image.height * image.bands * _BYTES.get(image.format, 8) > MEMORY_BYTES // 2:
        raise MemoryError
    source = oriented(image.width, image.height, orientation)
    target = oriented(*planned_size(*source, rules, source_format), orientation)
    try:
        pixels = _plain(image).resize(target[0] / image.width, vscale=target[1] / image.height, kernel="lanczos3")
        mode = "L" if pixels.bands == 1 else "RGB"
        small = Image.frombytes(mode, (pixels.width, pixels.height), bytes(pixels.write_to_memory()))
    except vips.Error:
        return Reading(None, opened=True)
    if small.size != target:
        small = small.resize(target, Image.Resampling.LANCZOS)
    return Reading(Raster(small, source_format, source, notes=[_NOTE]), opened=True)


def _plain(image: Any) -> Any:
    """8-bit grey or sRGB on white."""
    colours = {"b-w": 1, "grey16": 1, "cmyk": 4}.get(image.interpretation, 3 if image.bands > 2 else 1)
    alpha = image[colours] if image.bands == colours + 1 else None
    image = image[:colours] if image.bands > colours else image
    if (image.format, image.interpretation) in _KNOWN and not _is_over_range(image):
        if image.get_typeof("icc-profile-data"):
            image = image.icc_transform("srgb", embedded=True)
        image = image.colourspace("b-w" if colours == 1 else "srgb")
    else:
        image = _stretched(image)
    if image.format != "uchar":
        image = image.cast("uchar")
    return image if alpha is None else _on_white(image, alpha)


def _is_over_range(image: Any) -> bool:
    """Whether numbers that should be light from 0 to 1 are something else."""
    return bool(image.interpretation == "scrgb" and image.max() > 2)


def _stretched(image: Any) -> Any:
    """As `colours` does for Pillow: 0 to 1 and 0 to 255 are kept as such."""
    low, high = image.min(), image.max()
    if low >= 0:
        low = 0.0
        high = 1.0 if high <= 1 and image.format in ("float", "double") else 255.0 if high <= 255 else high
    scale = 255 / ((high - low) or 1.0)
    return image.linear(scale, -low * scale, uchar=True).copy(interpretation="srgb" if image.bands == 3 else "b-w")


def _on_white(image: Any, alpha: Any) -> Any:
    opaque = {"uchar": 255, "ushort": 65535}.get(alpha.format) or max(alpha.max(), 1.0)
    share = alpha.linear(1 / opaque, 0)
    return (image * share + 255 * (1 - share)).cast("uchar")
