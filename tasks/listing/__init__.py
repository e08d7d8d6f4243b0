"""List: which images there are, from a folder, a file, a glob, a manifest or S3.

What counts as an image: in folders, globs and S3 prefixes a file with an image extension (any case), and a file
without any extension whose first bytes are an image's, or cannot be read. Files with another extension, hidden files
and empty folders are passed over and counted; what is excluded is not looked into. A file named by itself or in a
manifest is always listed, whatever its name: if it cannot be decoded it becomes a row that says so.

folders    a folder and below, or a glob     objects    S3, page by page     manifests  what a table or text names
kinds      what counts as an image           images     what is known of a million of them, in columns
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tasks.errors import SourceError
from tasks.listing.folders import absolute, folder_root, from_folder, from_glob, glob_root, local_path, local_source
from tasks.listing.images import Images, OnDemand, Picked, Progress, any_on_s3, collect, collect_sorted
from tasks.listing.kinds import NameFilter, has_wildcard
from tasks.listing.manifests import MANIFEST_EXTENSIONS, from_manifest
from tasks.listing.objects import enough, from_s3, rooted
from tasks.storage.reading import NotAFile
from tasks.storage.s3 import explain_s3, is_s3
from tasks.text import as_utf8

__all__ = ["Images", "Listing", "OnDemand", "Picked", "Progress", "any_on_s3", "list_images"]


@dataclass(frozen=True)
class Listing:
    """What a source holds: the images in order, and how many other files were passed over, by extension.

    With a limit, only as much was looked at as the first images take.
    """

    source: str
    images: Images
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes of all listed images."""
        return self.images.total_bytes


def list_images(
    source: str,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    limit: int | None = None,
    progress: Progress | None = None,
) -> Listing:
    """Every image of the source, sorted by URI; SourceError says why a source cannot be listed or holds none.

    `progress` is told, every thousand images, how many there are so far.
    """
    if as_utf8(source) != source:  # Prefect takes it as a parameter of the flow, and the table `runs` as text
        raise SourceError(f"The name {as_utf8(source)} is not UTF-8. Change into the folder and name the source `.`.")
    source = local_path(source)
    passed_over: Counter[str] = Counter()
    include, exclude = tuple(include), tuple(exclude)
    try:
        images = _found(source, NameFilter(include, exclude), passed_over, limit, progress)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(_explain(error, source)) from error
    if not images:
        raise SourceError(_none_found(source, passed_over, filtered=bool(include or exclude)))
    return Listing(source, images, dict(passed_over))


def _found(
    source: str, wanted: NameFilter, passed_over: Counter[str], limit: int | None, progress: Progress | None
) -> Images:
    if source.lower().endswith(MANIFEST_EXTENSIONS):
        return collect(islice(from_manifest(source, wanted), limit), progress=progress)
    if is_s3(source):
        root, found = rooted(source, from_s3(source, wanted, passed_over))
        return collect_sorted(enough(found, source, root, limit), root, limit=limit, progress=progress)
    if has_wildcard(source) and not os.path.exists(source):
        found = from_glob(source, wanted, passed_over)
        return collect_sorted(found, glob_root(source), limit=limit, progress=progress)
    path = Path(source).expanduser()
    if path.is_dir():
        root = folder_root(path)
        return collect(islice(from_folder(root, wanted, passed_over), limit), root, progress)
    path.stat()  # a file named by itself must be there
    uri = absolute(path)
    name = Path(uri).name
    return collect([local_source(uri, name)] if wanted(name) else [])


def _explain(error: Exception, source: str) -> str:
    if is_s3(source) or "botocore" in type(error).__module__:
        return explain_s3(error, source)
    if isinstance(error, FileNotFoundError) and "://" in source:
        return f"{source} is no source: images come from local disk or s3://bucket/prefix. Download them first."
    if isinstance(error, FileNotFoundError):
        return f"There is no {os.path.abspath(os.path.expanduser(source))}. Check the path."
    if isinstance(error, NotAFile):
        return f"{error} A manifest (.csv, .parquet, .txt) has to be a file."
    if isinstance(error, PermissionError):
        return (
            f"No permission to read {error.filename or source}. Check its owner and mode, or leave it out (--exclude)."
        )
    if isinstance(error, ValueError) and "\0" in source:
        return "The name of the source has a NUL in it, as no file can have. Check what made the name."
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return f"The path {source[:60]}... of {len(source):,} characters is longer than the system takes. Check it."
    return f"Cannot list {source}: {error}."


def _none_found(source: str, passed_over: Counter[str], *, filtered: bool) -> str:
    if filtered:
        return f"No image in {source} is left after --include and --exclude. Check the globs."
    if passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in passed_over.most_common(4))
        return f"No image in {source}: passed over {kinds}. Name a folder with images, or list the files in a manifest."
    if any(mark in source for mark in "*?["):
        return f"Nothing matches {source}. Check the pattern (quote it, so that the shell leaves it alone)."
    return f"No image in {source}: it is empty. Check the path."
