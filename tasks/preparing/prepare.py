"""Prepare one file: as it is where it already fits, otherwise decoded, shrunk and encoded in a child; and how large.

The parent reads no more of a file than the first bytes and, of the four formats that can go as they are, the container:
0.01 to 0.1 ms of CPU for most files. Only to ask a child takes 0.1 to 0.4 ms more, and half a second until it runs.
"""

from hashlib import sha256

from tasks.billing.usage import seen_size
from tasks.errors import ImageError
from tasks.preparing.containers.container import PARENT_BYTES, Container
from tasks.preparing.formats import MEDIA_TYPES
from tasks.preparing.headers import CONTAINERS, known_format, oriented, read_container
from tasks.preparing.pool import decode_in_child
from tasks.preparing.soundness import must_be_decoded
from tasks.types import ImageRules, PreparedImage

_JPEG_SHRINKS = (2, 4, 8)  # by which a JPEG decoder makes an image smaller out of the coefficients it is stored as
_CLOSE = 0.97  # of the wanted size: as readable, for half the work: 54 ms of CPU where it was 104
API_MAX_EDGE = 8000  # a longer side is refused (https://platform.claude.com/docs/en/build-with-claude/vision)


def prepare_image(data: bytes, rules: ImageRules) -> list[PreparedImage]:
    """The pages of a file as they will be sent, counted from 1; ImageError says why a file cannot be."""
    if len(data) > rules.max_source_bytes:
        megabytes, limit = len(data) / 1e6, rules.max_source_bytes / 1e6
        raise ImageError("too_large", f"The file has {megabytes:,.1f} MB; at most {limit:,.0f} MB are read")
    name = known_format(data)
    if name in CONTAINERS and (container := _read_quickly(data, name)):
        check_pixels(container.width, container.height, rules)
        if is_ready(container, rules) and not container.alpha and not must_be_decoded(container, name):
            return [as_it_is(container, name)]
    return decode_in_child(data, name, rules)


def _read_quickly(data: bytes, name: str) -> Container | None:
    """The container, if the part of the file that the parent reads has its beginning; the child reads on."""
    try:
        return read_container(name, data[:PARENT_BYTES])
    except ImageError as error:
        if error.code == "truncated":
            return None
        raise


def is_ready(container: Container, rules: ImageRules) -> bool:
    """Whether the file, stripped of metadata, is a request within the rules; transparency is the caller's question."""
    size = container.width, container.height
    return (
        not rules.webp
        and container.complete
        and container.intact
        and container.plain
        and container.frames == 1
        and container.orientation == 1
        and planned_size(*size, rules) == size
        and base64_length(sum(map(len, container.pieces))) <= rules.max_base64_bytes
    )


def as_it_is(container: Container, name: str) -> PreparedImage:
    """The page that sends the file's own pixels, to the bit."""
    data = container.stripped()
    width, height = oriented(container.width, container.height, container.orientation)
    return PreparedImage(
        page=1,
        data=data,
        media_type=MEDIA_TYPES[name],
        sha256=sha256(data).hexdigest(),
        width=width,
        height=height,
        source_format=name,
        source_width=width,
        source_height=height,
        note="; ".join(left_out(container)) or None,
    )


def left_out(container: Container) -> list[str]:
    """Notes on what a file holds besides the image that is sent."""
    others = [f"first of {container.others + 1} images"] if container.others else []
    return [*others, f"first of {container.frames} frames"] if container.frames > 1 else others


def check_pixels(width: int, height: int, rules: ImageRules) -> None:
    """ImageError `too_many_pixels` for an image that would take too much memory to decode."""
    if width * height > rules.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"The image has {width:,} x {height:,} pixels ({width * height / 1e6:,.0f} million); "
            f"at most {rules.max_pixels / 1e6:,.0f} million are decoded",
        )


def planned_size(width: int, height: int, rules: ImageRules, source_format: str = "") -> tuple[int, int]:
    """The size in pixels at which an image of this size is sent: never larger, and nothing the model would not see.

    A JPEG may be sent up to 3 % smaller than another image: at the size to which it can be decoded (`jpeg_shrink`).
    """
    shrink = jpeg_shrink(width, height, rules) if source_format == "JPEG" else 1
    return _shrunk(width, height, shrink) if shrink > 1 else _largest_size(width, height, rules)


def jpeg_shrink(width: int, height: int, rules: ImageRules) -> int:
    """2, 4 or 8 where a JPEG decoded at that fraction needs no resampling any more, else 1.

    That is where the fraction fits the rules and is at most 3 % smaller than what they allow.
    """
    wanted = max(_largest_size(width, height, rules))
    for shrink in _JPEG_SHRINKS:
        decoded = _shrunk(width, height, shrink)
        if max(decoded) < _CLOSE * wanted or min(width, height) < shrink:
            break
        if _largest_size(*decoded, rules) == decoded:
            return shrink
    return 1


def decoded_by(shrink: int) -> int:
    """By how much a JPEG's decoder shrinks what is sent at a half, a quarter or an eighth.

    A decoder's quarter is rough: of 275 words on receipts 234 were read, 240 where it made a half, and four pixels one.
    """
    return shrink if shrink == 2 else shrink // 2


def _shrunk(width: int, height: int, shrink: int) -> tuple[int, int]:
    """The size a JPEG decoder makes: a last column or line that is not whole is kept."""
    return -(-width // shrink), -(-height // shrink)


def _largest_size(width: int, height: int, rules: ImageRules) -> tuple[int, int]:
    """The size that the rules allow."""
    edge = min(rules.max_edge, API_MAX_EDGE)
    longest = max(width, height)
    if longest > edge:
        width, height = max(round(width * edge / longest), 1), max(round(height * edge / longest), 1)
    return seen_size(width, height, max_edge=rules.model_edge, max_tokens=rules.model_tokens)


def base64_length(size: int) -> int:
    """Characters of the base64 text of so many bytes."""
    return (size + 2) // 3 * 4
