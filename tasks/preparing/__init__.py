"""Prepare: any image file becomes one request-sized image per page, or one typed reason why not.

The parent process only reads headers and edits containers. Whatever has to be decoded is decoded in a child process
with a limit on memory and time (`pool`, `worker`), so that a hostile file costs one image and not the run.
"""

from tasks.preparing.formats import is_image_name, sniff_format
from tasks.preparing.headers import ImageHeader, image_header
from tasks.preparing.prepare import planned_size, prepare_image

# Part of the key of every finished chunk: raise it when its answers should be asked for again, as after a mistake in
# turning or colours. Photos that are 2 % smaller since 2026-11-24 were no reason to pay for theirs again.
PREPARATION_VERSION = 2

__all__ = [
    "PREPARATION_VERSION",
    "ImageHeader",
    "image_header",
    "is_image_name",
    "planned_size",
    "prepare_image",
    "sniff_format",
]
