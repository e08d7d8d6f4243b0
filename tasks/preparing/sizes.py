"""How large an image is sent."""

from tasks.billing.usage import seen_size
from tasks.types import ImageRules

_JPEG_SHRINKS = (2, 4, 8)  # by which a JPEG decoder makes an image smaller out of the coefficients it is stored as
_CLOSE = 0.97  # of the wanted size: as readable, for half the work: 54 ms of CPU where it was 104
API_MAX_EDGE = 8000  # a longer side is refused (https://platform.claude.com/docs/en/build-with-claude/vision)


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
