"""Images on this machine: in a folder and below, or by a glob."""

import errno
import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tasks.listing.kinds import SNIFFED_BYTES, NameFilter, is_image, kind, literal
from tasks.storage.reading import NotAFile, file_source, open_file
from tasks.types import Source

LEADS_OUT = "links that lead out of it"  # what they are counted as


class Inside:
    """Whether a path leads to a place below the root, wherever the root itself leads."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._below = f"{self._root.rstrip('/')}/"
        self._folders: dict[str, bool] = {}

    def link(self, path: str) -> bool:
        """Of one link."""
        real = os.path.realpath(path)
        return real == self._root or real.startswith(self._below)

    def match(self, path: Path) -> bool:
        """Of a path found by a pattern, any part of which may be a link."""
        folder = str(path.parent)
        if folder not in self._folders:
            self._folders[folder] = self.link(folder)
        return self._folders[folder] and not (path.is_symlink() and not self.link(str(path)))


def leads_back(link: Path) -> bool:
    """Whether it leads to a folder that it lies in, which would be listed for ever."""
    return any(link.samefile(above) for above in link.parents)


def local_source(uri: str, name: str) -> Source:
    """What the disk says of a file now."""
    try:
        status = os.stat(uri)  # noqa: PTH116  # a Path for every file would take as long as the rest
    except (OSError, ValueError):  # gone, a link to nothing, or no path that a file can have: the row will say so
        return Source(uri=uri, name=name, size=0)
    return file_source(uri, name, status)


def local_path(uri: str) -> str:
    """The path that a `file://` URI stands for (RFC 8089, appendix B); anything else as it is."""
    return unquote(uri.removeprefix("file://")) if uri.startswith("file:///") else uri


def absolute(path: str | Path) -> str:
    """The one name of a path however it was typed: absolute, without `.`, `..` and doubled slashes.

    A `..` goes where the file system says, also behind a link. Links are names that a person chose, and stay: to look
    through them would give every image a new name when a link is turned to another folder.
    """
    parts = Path("/", *Path(path).absolute().parts[1:]).parts
    if ".." not in parts:
        return str(Path(*parts))
    last = len(parts) - parts[::-1].index("..")
    try:
        return str(Path(os.path.realpath(Path(*parts[:last])), *parts[last:]))
    except (OSError, ValueError):  # no path that a file can have
        return os.path.abspath(Path(*parts))


def relative_name(path: Path, root: Path) -> str:
    """The path below the root, or the last part of one that lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def folder_root(folder: Path) -> str:
    """What the URI of every file in the folder begins with."""
    return f"{absolute(folder).rstrip('/')}/"


def from_folder(root: str, wanted: NameFilter, passed_over: Counter[str]) -> Iterator[Source]:
    """Images below the root (which ends with a slash), ascending by URI.

    PermissionError for a folder that cannot be listed, unless it is excluded. A folder whose path is longer than the
    system takes is one image, whose row will say so.
    """
    inside = Inside(root)
    below = [("", iter(_entries(root, inside)))]
    while below:
        folder, entries = below[-1]
        entry = next(entries, None)
        if entry is None:
            below.pop()
            continue
        name = folder + entry.lstrip("/")
        if entry.startswith("/"):
            passed_over[LEADS_OUT] += wanted(name)
        elif entry.endswith("/"):
            try:
                below.append((name, iter(_wanted_entries(root, name, wanted, inside))))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                yield Source(uri=root + name, name=name, size=0)
        elif wanted(name):
            if is_image(entry, root + name, first_bytes):
                yield local_source(root + name, name)
            else:
                passed_over[kind(entry)] += 1


def _wanted_entries(root: str, folder: str, wanted: NameFilter, inside: Inside) -> list[str]:
    if wanted.excludes_below(folder):
        return []
    try:
        return _entries(root + folder, inside)
    except FileNotFoundError:  # removed meanwhile
        return []
    except PermissionError:
        if wanted.excludes(folder.rstrip("/")):
            return []
        raise


def _entries(folder: str, inside: Inside) -> list[str]:
    """Names in a folder, hidden ones, pipes, sockets and devices left out.

    With a slash after a folder's name they sort as the URIs below it do. One before the name, which no name can have,
    marks a link that leads out of the root.
    """
    names = []
    with os.scandir(folder.rstrip("/") or "/") as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not inside.link(entry.path):
                names.append(f"/{entry.name}")
            elif not _is_folder(entry):
                if entry.is_symlink() or entry.is_file():
                    names.append(entry.name)
            elif not (entry.is_symlink() and leads_back(Path(entry.path))):
                names.append(f"{entry.name}/")
    return sorted(names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def glob_root(pattern: str) -> str:
    """What the URI of every match begins with."""
    folder, slash, _ = literal(pattern).rpartition("/")
    return folder_root(Path(folder + slash).expanduser())


def from_glob(pattern: str, wanted: NameFilter, passed_over: Counter[str]) -> Iterator[Source]:
    """Images that match, in no order."""
    start = Path(absolute(Path(literal(pattern)).expanduser()))
    root = start if start.is_dir() else start.parent
    inside = Inside(str(root))
    for found in glob.iglob(os.path.expanduser(pattern), recursive=True):
        path = Path(absolute(found))
        if not path.is_file():
            continue
        if not wanted(name := relative_name(path, root)):
            continue
        if not inside.match(path):
            passed_over[LEADS_OUT] += 1
            continue
        if is_image(path.name, str(path), first_bytes):
            yield local_source(str(path), name)
        else:
            passed_over[kind(path.name)] += 1


def first_bytes(uri: str) -> bytes | None:
    """Enough of a file to tell what it is; nothing of a link to nothing, or to no file; None where it is refused."""
    try:
        with open_file(uri) as file:
            return file.read(SNIFFED_BYTES)
    except (FileNotFoundError, NotAFile):
        return b""
    except OSError:
        return None
