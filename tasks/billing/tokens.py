"""How many tokens an image costs, and how the server will shrink it first.

The rule is Anthropic's published one (https://platform.claude.com/docs/en/build-with-claude/vision): after the server's
own downscale an image is cut into patches of 28 x 28 pixels, one token a patch.
"""

from math import ceil

PATCH = 28


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image that the model sees at this size."""
    return ceil(width / PATCH) * ceil(height / PATCH)


def seen_size(width: int, height: int, *, max_edge: int, max_tokens: int) -> tuple[int, int]:
    """The size in pixels at which a model of this tier sees an image; never larger than the image."""

    def fits(w: int, h: int) -> bool:
        padded_edge = max(ceil(w / PATCH), ceil(h / PATCH)) * PATCH
        return padded_edge <= max_edge and image_tokens(w, h) <= max_tokens

    if fits(width, height):
        return width, height
    if height > width:
        seen_height, seen_width = seen_size(height, width, max_edge=max_edge, max_tokens=max_tokens)
        return seen_width, seen_height
    ratio = width / height
    low, high = 1, width
    while low + 1 < high:
        middle = (low + high) // 2
        if fits(middle, max(round(middle / ratio), 1)):
            low = middle
        else:
            high = middle
    return low, max(round(low / ratio), 1)
