"""Encode: a page as JPEG, or as PNG where that is smaller and exact, within the limit on base64 text."""

import io
from dataclasses import dataclass, field

from PIL import Image, ImageChops

from tasks.errors import ImageError
from tasks.preparing.formats import MEDIA_TYPES
from tasks.preparing.prepare import base64_length
from tasks.types import ImageRules, PreparedImage

_FEW_COLOURS = 256  # what a PNG palette holds
_SHARP_COLOUR = 90  # from this quality on colour is kept at full resolution: coloured text blurs otherwise
_LOWEST_QUALITY = 50
_QUALITY_STEP = 10
_SIZE_STEP = 0.8


@dataclass(slots=True)
class Raster:
    """A page at the size that is sent: mode L or RGB, sRGB, upright, opaque; `source_size` is upright too."""

    image: Image.Image
    source_format: str
    source_size: tuple[int, int]
    drawn: bool = False  # from a palette, two colours or a drawing: worth trying as PNG
    notes: list[str] = field(default_factory=list)
    scale: tuple[float, float] | None = None  # of a source point, before `offset`; None: the edges meet the edges
    offset: tuple[float, float] = (0.0, 0.0)


def encode(raster: Raster, rules: ImageRules, *, page: int) -> PreparedImage:
    """The page as it is sent; first quality, then size is lowered until it fits the limit, and the note says so."""
    image, quality, notes = raster.image, rules.quality, list(raster.notes)
    source_format, data = ("WEBP", _webp(image, quality)) if rules.webp else _smallest(raster, quality)
    while base64_length(len(data)) > rules.max_base64_bytes:
        if quality > _LOWEST_QUALITY:
            quality = max(quality - _QUALITY_STEP, _LOWEST_QUALITY)
        elif max(image.size) > 1:
            smaller = max(int(image.width * _SIZE_STEP), 1), max(int(image.height * _SIZE_STEP), 1)
            image = raster.image.resize(smaller, Image.Resampling.LANCZOS)
        else:
            raise ImageError("too_large", f"No encoding fits into {rules.max_base64_bytes:,} bytes of base64")
        source_format, data = "JPEG", _jpeg(image, quality)
    if quality != rules.quality:
        notes.append(f"JPEG quality {quality} to fit the byte limit")
    if image.size != raster.image.size:
        notes.append(f"shrunk to {image.width} x {image.height} to fit the byte limit")
    width, height = raster.source_size
    scale_x, scale_y = raster.scale or (raster.image.width / width, raster.image.height / height)
    again_x, again_y = image.width / raster.image.width, image.height / raster.image.height
    return PreparedImage(
        page=page,
        data=data,
        media_type=MEDIA_TYPES[source_format],
        sha256="",  # the parent's, over the bytes it receives
        width=image.width,
        height=image.height,
        source_format=raster.source_format,
        source_width=width,
        source_height=height,
        scale_x=scale_x * again_x,
        scale_y=scale_y * again_y,
        offset_x=raster.offset[0] * again_x,
        offset_y=raster.offset[1] * again_y,
        note="; ".join(notes) or None,
    )


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2)  # 3 ms where 4 takes 7, for a tenth more bytes
    return buffer.getvalue()


def _smallest(raster: Raster, quality: int) -> tuple[str, bytes]:
    jpeg = _jpeg(raster.image, quality)
    if raster.drawn or _has_few_colours(raster):
        png = _png(raster.image)
        if len(png) <= len(jpeg):
            return "PNG", png
    return "JPEG", jpeg


def _has_few_colours(raster: Raster) -> bool:
    """Whether a palette would hold them; a grey scan's would fit too, but as JPEG it is no longer exact anyway."""
    return (
        raster.source_format != "JPEG"
        and raster.image.mode == "RGB"
        and raster.image.getcolors(_FEW_COLOURS) is not None
    )


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    # `exif` and `icc_profile` of the source would be written from `image.info`, which resampling may carry along.
    image.info.clear()
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality >= _SHARP_COLOUR else 2)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    """PNG in the fewest bits that hold the colours exactly."""
    colours = image.getcolors(_FEW_COLOURS)
    if colours is not None:
        if image.mode == "RGB":
            small = image.quantize(len(colours), dither=Image.Dither.NONE)
        else:
            small = image.convert("1", dither=Image.Dither.NONE)
        if ImageChops.difference(small.convert(image.mode), image).getbbox() is None:
            image = small
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
