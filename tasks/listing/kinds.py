"""What counts as an image, and which images are wanted."""

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from tasks.preparing import is_image_name, sniff_format

Wanted = Callable[[str], bool]

SNIFFED_BYTES = 4096
WILDCARDS = re.compile(r"[*?\[]")


def is_image(file: str, where: str, first_bytes: Callable[[str], bytes]) -> bool:
    """Whether the file's extension is an image's, or, where it has none, the first bytes are that lie there."""
    return is_image_name(file) if extension(file) else sniff_format(first_bytes(where)) is not None


def extension(file: str) -> str:
    """As `Path(file).suffix` has it: `.jpg`, or nothing for `.hidden` and `dot.`"""
    dot = file.rfind(".")
    return file[dot:] if 0 < dot < len(file) - 1 else ""


def kind(file: str) -> str:
    """What a file that is passed over is counted as."""
    return extension(file).lower() or "no extension"


def chooser(include: Iterable[str], exclude: Iterable[str]) -> Wanted:
    """Whether an image of this name is wanted: its path below the source, or the last part of it, is matched."""
    included, excluded = _matcher(include), _matcher(exclude)

    def wanted(name: str) -> bool:
        return (included is None or included(name)) and not (excluded is not None and excluded(name))

    return wanted


def has_wildcard(source: str) -> bool:
    """Whether it may be a pattern."""
    return bool(WILDCARDS.search(source))


def literal(pattern: str) -> str:
    """What a pattern says before its first wildcard, with which every match begins."""
    return WILDCARDS.split(pattern, maxsplit=1)[0]


def _matcher(globs: Iterable[str]) -> Wanted | None:
    """Whether any of the globs matches; None where there are none."""
    patterns = [translate(glob) for glob in globs]
    if not patterns:
        return None
    match = re.compile("|".join(patterns)).match
    return lambda name: bool(match(name) or match(name.rpartition("/")[2]))
