"""How large an image is sent."""

from tasks.billing.tokens import seen_size
from tasks.types import ImageRules

API_MAX_EDGE = 8000  # a longer side is refused (https://platform.claude.com/docs/en/build-with-claude/vision)


def planned_size(width: int, height: int, rules: ImageRules) -> tuple[int, int]:
    """The size in pixels at which an image of this size is sent: never larger, and nothing the model would not see."""
    edge = min(rules.max_edge, API_MAX_EDGE)
    longest = max(width, height)
    if longest > edge:
        width, height = max(round(width * edge / longest), 1), max(round(height * edge / longest), 1)
    return seen_size(width, height, max_edge=rules.model_edge, max_tokens=rules.model_tokens)


def base64_length(size: int) -> int:
    """Characters of the base64 text of so many bytes."""
    return (size + 2) // 3 * 4
