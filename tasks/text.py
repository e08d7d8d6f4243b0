"""Text that is on its way out: into Parquet, JSON for Prefect's API, a terminal, a log or a page.

Tables keep what came from outside as it came; it is made harmless where a person or a program meets it.
"""

import re
import unicodedata
from decimal import Decimal


def as_utf8(text: str) -> str:
    r"""The text, with halves of surrogate pairs, which UTF-8 cannot hold, written as `\udce9`.

    They stand in the names of local files that are no UTF-8, and may stand in an answer, whose JSON allows them.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    r"""The text on one line, as a terminal or a log may show it: what would steer either is written as `\x1b`.

    That is every control character (C0 and C1, ECMA-48, line ends among them), every invisible format character, such
    as those that turn the direction of writing (https://www.unicode.org/reports/tr36/), and what UTF-8 cannot hold.
    """
    return as_utf8(text) if text.isprintable() else as_utf8("".join(map(_shown, text)))


def as_markdown(text: str) -> str:
    r"""The text for a page that renders Markdown, such as Prefect's artifacts: shown as it is, never acted upon.

    A backslash before punctuation that means something makes it plain (CommonMark 2.4, and GitHub's links without
    brackets), so that no image is fetched, no link made, no HTML read and no cell of a table ended.
    """
    return _PUNCTUATION.sub(r"\\\g<0>", printable(text))


def counted(count: int, noun: str) -> str:
    """`1 image`, `12,480 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def dollars(amount: Decimal) -> str:
    """Rounded to a cent, or to two digits where that would be nothing."""
    return f"${amount:,.2f}" if amount >= Decimal("0.1") else f"${amount:.2g}"


def duration(seconds: float) -> str:
    """Seconds in words, as long as they deserve."""
    if seconds < 100:
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


_PUNCTUATION = re.compile(r"[\\`*_{}\[\]<>#!|~&@$^]|:(?=/)|(?<=www)\.", re.IGNORECASE)


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs" or character == "\u200d":  # joins emoji
        return character
    return character.encode("unicode_escape").decode()
