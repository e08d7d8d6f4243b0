"""What counts as an image, and which images are wanted."""

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from tasks.preparing import is_image_name, sniff_format

Matcher = Callable[[str], bool]

SNIFFED_BYTES = 4096
WILDCARDS = re.compile(r"[*?\[]")


def is_image(file: str, where: str, first_bytes: Callable[[str], bytes | None]) -> bool:
    """Whether the file's extension is an image's, or, where it has none, the first bytes are that lie there.

    A file that cannot be read may be one: its row will say why not.
    """
    if extension(file):
        return is_image_name(file)
    start = first_bytes(where)
    return start is None or sniff_format(start) is not None


def extension(file: str) -> str:
    """As `Path(file).suffix` has it: `.jpg`, or nothing for `.hidden` and `dot.`"""
    dot = file.rfind(".")
    return file[dot:] if 0 < dot < len(file) - 1 else ""


def kind(file: str) -> str:
    """What a file that is passed over is counted as."""
    return extension(file).lower() or "no extension"


class NameFilter:
    """Which images are wanted, by name: their path below the source, or the last part of it, is matched."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        exclude = tuple(exclude)
        self._included = _matcher(include)
        self._excluded = _matcher(exclude)
        self._excluded_to_the_end = _matcher(glob for glob in exclude if glob.endswith("*"))

    def __call__(self, name: str) -> bool:
        """Whether the file is."""
        return (self._included is None or self._included(name)) and not self.excludes(name)

    def excludes(self, name: str) -> bool:
        """Whether the file, or the folder itself, is excluded."""
        return self._excluded is not None and self._excluded(name)

    def excludes_below(self, folder: str) -> bool:
        """Whether everything is excluded whose path begins with the folder's, which ends with a slash."""
        return self._excluded_to_the_end is not None and self._excluded_to_the_end(folder)


def has_wildcard(source: str) -> bool:
    """Whether it may be a pattern."""
    return bool(WILDCARDS.search(source))


def literal(pattern: str) -> str:
    """What a pattern says before its first wildcard, with which every match begins."""
    return WILDCARDS.split(pattern, maxsplit=1)[0]


def _matcher(globs: Iterable[str]) -> Matcher | None:
    """Whether any of the globs matches; None where there are none."""
    patterns = [translate(glob) for glob in globs]
    if not patterns:
        return None
    match = re.compile("|".join(patterns)).match
    return lambda name: bool(match(name) or match(name.rpartition("/")[2]))
