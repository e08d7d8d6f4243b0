"""Decode: any image file to pages of plain sRGB at the size that is sent. Runs in the child process only."""

import io
import struct
import sys
import warnings
from collections.abc import Iterator

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from tasks.errors import ImageError
from tasks.preparing.colours import is_opaque, on_white, resizable, to_srgb
from tasks.preparing.containers.container import Container, Directory, damaged, tiff_pages
from tasks.preparing.encoding import Raster, encode
from tasks.preparing.headers import CONTAINERS, image_header, oriented, read_container
from tasks.preparing.pool import MEMORY_BYTES
from tasks.preparing.prepare import as_it_is, check_pixels, decoded_by, is_ready, jpeg_shrink, left_out, planned_size
from tasks.preparing.second_reader import read_again
from tasks.preparing.soundness import check_holes
from tasks.preparing.vips import decodes_cleanly, draw_svg, is_plain, shrunk
from tasks.types import ImageRules, PreparedImage

Image.MAX_IMAGE_PIXELS = None  # ours is checked first, and is the user's to set
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 100_000_000  # editors leave histories of many MB
warnings.simplefilter("ignore")

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MIRRORED_X, _MIRRORED_Y = (2, 3, 6, 7), (3, 4, 7, 8)  # orientations whose upright axis runs against the stored one
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # in memory; every other mode takes 4

Box = tuple[float, float, float, float]


def decode(data: bytes, source_format: str, rules: ImageRules) -> list[PreparedImage]:
    """The pages of a file; ImageError for whatever its decoder trips over, MemoryError for too large an image."""
    container = read_container(source_format, data, sys.maxsize) if source_format in CONTAINERS else None
    try:
        if source_format == "SVG":
            return [encode(draw_svg(data, rules), rules, page=1)]
        if source_format == "TIFF":
            return list(_tiff_pages(data, rules))
        if container is None:
            header = image_header(data)
            check_pixels(header.width, header.height, rules)
        return [_first_frame(data, source_format, container, rules)]
    except (ImageError, MemoryError):
        raise
    except Exception as refusal:  # noqa: BLE001  # decoders raise nearly every type there is on damaged files
        orientation = container.orientation if container else 1
        raster = _by_second_reader(data, source_format, rules, refusal, container, orientation=orientation)
        raster.notes.extend(left_out(container) if container else [])
        return [encode(raster, rules, page=1)]


def _by_second_reader(
    data: bytes,
    source_format: str,
    rules: ImageRules,
    refusal: Exception,
    container: Container | None = None,
    **place: int,
) -> Raster:
    """The page as libvips reads it; else ImageError with Pillow's reason for refusing it."""
    reading = read_again(data, source_format, rules, **place)
    if reading.raster:
        reading.raster.image = _upright(reading.raster.image, place["orientation"])
        return reading.raster
    if container and not container.complete:
        raise ImageError("truncated", f"The {source_format} file is cut short: {_reason(refusal)}") from refusal
    if not reading.opened and isinstance(refusal, UnidentifiedImageError | NotImplementedError):
        message = f"No decoder here opens this kind of {source_format}; convert the file to JPEG or PNG"
        raise ImageError("unsupported", message) from refusal
    raise ImageError("damaged", f"The {source_format} file is damaged: {_reason(refusal)}") from refusal


def _first_frame(data: bytes, source_format: str, container: Container | None, rules: ImageRules) -> PreparedImage:
    if container and source_format == "JPEG":
        check_holes(container)
        if not (container.complete and container.intact):
            decodes_cleanly(data)
    if container and (plain := _shrink_plain(data, source_format, container, rules)):
        return encode(plain, rules, page=1)
    image = _open(data, source_format)
    check_pixels(*image.size, rules)
    orientation = container.orientation if container else 1
    if source_format == "AVIF":  # Pillow reports how the container turns the image as an EXIF orientation
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if source_format == "HEIF":  # turned by its decoder, which knows the size only then
        image.load()
    if container and is_ready(container, rules) and _decodes(image, data, container):
        return as_it_is(container, source_format)
    raster = _shrink(image, source_format, orientation, rules)
    if container:
        raster.notes.extend(left_out(container))
    elif source_format in ("AVIF", "HEIF") and (frames := getattr(image, "n_frames", 1)) > 1:
        raster.notes.append(f"primary of {frames} images" if source_format == "HEIF" else f"first of {frames} frames")
    return encode(raster, rules, page=1)


def _decodes(image: Image.Image, data: bytes, container: Container) -> bool:
    """Whether a file may go as it is: False for one that shows through; its decoder's error for a damaged one."""
    if image.format == "JPEG":
        if not decodes_cleanly(data):
            image.load()
        return True
    try:
        image.load()
    except (MemoryError, NotImplementedError):
        raise
    except Exception as error:  # as above; the second reader would fill up what is missing
        raise damaged(image.format or "image", _reason(error)) from error
    return not container.alpha or is_opaque(image)


def _tiff_pages(data: bytes, rules: ImageRules) -> Iterator[PreparedImage]:
    """Each page of a TIFF; one that is damaged costs the file, so that no page is missing without a word."""
    pages = tiff_pages(data)
    for number, page in enumerate(pages[: rules.max_pages], start=1):
        check_pixels(page.width, page.height, rules)
        raster = _tiff_page(data, page, rules)
        if number == rules.max_pages < len(pages):
            raster.notes.append(f"page {number} of {len(pages)}; later pages were left out")
        yield encode(raster, rules, page=number)


def _tiff_page(data: bytes, page: Directory, rules: ImageRules) -> Raster:
    try:
        image = _open(data, "TIFF")
        image.seek(page.index)
        return _shrink(image, "TIFF", 1, rules)  # Pillow gives the turned size, and turns while loading
    except (ImageError, MemoryError):
        raise
    except Exception as refusal:  # noqa: BLE001  # as above
        return _by_second_reader(data, "TIFF", rules, refusal, page=page.index, orientation=page.orientation)


def _open(data: bytes, source_format: str) -> Image.Image:
    """The image, not yet decoded, by the one decoder its first bytes call for."""
    if source_format == "HEIF":
        import pi_heif

        pi_heif.register_heif_opener()
    return Image.open(io.BytesIO(data), formats=[source_format])


def _shrink_plain(data: bytes, source_format: str, container: Container, rules: ImageRules) -> Raster | None:
    """The common case: only shrink and turn."""
    stored = container.width, container.height
    source = oriented(*stored, container.orientation)
    target = oriented(*planned_size(*source, rules), container.orientation)
    if target == stored or not is_plain(container, source_format):
        return None
    shrink = jpeg_shrink(*source, rules) if source_format == "JPEG" else 1
    if shrink > 1:
        target = stored[0] // shrink, stored[1] // shrink
        if (target[0] * shrink, target[1] * shrink) != stored:
            return None  # libvips leaves out a last column or line that is not whole
    small = shrunk(data, source_format, stored, target, rough=rules.webp)
    if small is None:
        return None
    return Raster(_upright(small, container.orientation), source_format, source, notes=left_out(container))


def _shrink(image: Image.Image, source_format: str, orientation: int, rules: ImageRules) -> Raster:
    """Decode at little more than the size that is sent, shrink, turn, and make it plain sRGB on white."""
    source = oriented(*image.size, orientation)
    stored_target = oriented(*planned_size(*source, rules, source_format), orientation)
    shrink = jpeg_shrink(*source, rules) if source_format == "JPEG" else 1
    if shrink > 1:
        box = _draft(image, (image.width // decoded_by(shrink), image.height // decoded_by(shrink)))
    else:
        box = _decode_small(image, source_format, stored_target)
    if image.width * image.height * _PIXEL_BYTES.get(image.mode, 4) > MEMORY_BYTES:
        raise MemoryError  # at once, rather than when all of it is filled
    image.load()
    flat_source = image.mode in ("1", "P", "PA")
    small = resizable(image, source_format)
    if shrink > 2:
        small = small.reduce(shrink // decoded_by(shrink))
    if small.size != stored_target:
        small = small.resize(stored_target, Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)
    small = _upright(small, orientation)
    profile = image.info.get("icc_profile")
    plain = on_white(to_srgb(small, profile if isinstance(profile, bytes) else None))
    raster = Raster(plain, source_format, source, drawn=flat_source)
    if shrink > 1:
        raster.scale, raster.offset = _decoded_place(plain.size, source, shrink, orientation)
    return raster


def _decoded_place(
    size: tuple[int, int], source: tuple[int, int], shrink: int, orientation: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and offset of what a JPEG decoder made smaller: exact, though a last column or line may not be whole.

    After a turn that column can be the first one: then the picture begins a fraction of a pixel later.
    """
    (width, height), (across, down) = size, source
    left = width - across / shrink if orientation in _MIRRORED_X else 0.0
    top = height - down / shrink if orientation in _MIRRORED_Y else 0.0
    return (1 / shrink, 1 / shrink), (left, top)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURN[orientation]) if orientation in _TURN else image


def _decode_small(image: Image.Image, source_format: str, target: tuple[int, int]) -> Box | None:
    """Ask the decoder for about twice the target, which Lanczos then shrinks without loss; the part that counts."""
    wanted = target[0] * 2, target[1] * 2
    if source_format == "JPEG":
        return _draft(image, wanted)
    if source_format == "JPEG2000":
        image.reduce = _halvings(image, wanted)  # type: ignore[method-assign, assignment]
    return None


def _draft(image: Image.Image, least: tuple[int, int]) -> Box | None:
    """Let a JPEG be decoded at an eighth, a quarter or a half, but no smaller than this; the part that counts."""
    drafted = image.draft(None, least)
    return drafted[1] if drafted else None


def _halvings(image: Image.Image, wanted: tuple[int, int]) -> int:
    """How often JPEG 2000's decoder can halve the image: no more often than the file has levels of resolution.

    Nor where the halves are odd: OpenJPEG rounds up, Pillow to the nearest, and calls what does not agree damaged.
    """
    data = image.fp.getvalue()  # type: ignore[attr-defined]
    coding_style = data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51"))  # marker COD, ITU-T T.800 annex A.6.1
    levels = data[coding_style + 9] if 0 <= coding_style < len(data) - 9 else 0
    steps = min(image.width // wanted[0], image.height // wanted[1]).bit_length() - 1
    for halvings in range(min(steps, levels, 3), 0, -1):
        whole = 1 << halvings
        if all(-(-side // whole) == (side + whole // 2) // whole for side in image.size):
            return halvings
    return 0


def _reason(error: BaseException) -> str:
    """The decoder's own words, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it begins like one but cannot be read as one"
    if isinstance(error, struct.error | EOFError | IndexError):
        return "it ends too early"
    return " ".join(str(error).split())[:200] or type(error).__name__
