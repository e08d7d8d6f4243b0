"""Prepare one file: as it is where it already fits, otherwise decoded, shrunk and encoded in a child process.

The parent reads no more of a file than the first bytes and, of the four formats that can go as they are, the container:
0.01 to 0.1 ms of CPU for most files. Only to ask a child takes 0.1 to 0.4 ms more, and half a second until it runs.
"""

from hashlib import sha256

from tasks.errors import ImageError
from tasks.preparing.containers.container import PARENT_BYTES, Container
from tasks.preparing.formats import MEDIA_TYPES
from tasks.preparing.headers import CONTAINERS, known_format, oriented, read_container
from tasks.preparing.pool import decode_in_child
from tasks.preparing.sizes import base64_length, planned_size
from tasks.preparing.soundness import must_be_decoded
from tasks.types import ImageRules, PreparedImage


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
