"""List: which images there are, from a folder, a file, a glob, a manifest or S3.

What counts as an image: in folders, globs and S3 prefixes a file with an image extension (any case), and a file
without any extension whose first bytes are an image's. Files with another extension, hidden files and empty folders
are passed over and counted. A file named by itself or in a manifest is always listed, whatever its name: if it cannot
be decoded it becomes a row that says so.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tasks.errors import SourceError
from tasks.records import Source
from tasks.s3 import explain_s3, is_s3, s3_filesystem

MANIFEST_EXTENSIONS = (".csv", ".parquet", ".txt")
MANIFEST_COLUMNS = ("image", "uri", "url", "path", "file", "filename", "key", "source")
SNIFFED_BYTES = 4096


@dataclass(frozen=True)
class Listing:
    """What a source holds: the images in order, and how many other files were passed over, by extension."""

    source: str
    images: list[Source]
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes of all listed images."""
        return sum(image.size for image in self.images)


def list_images(
    source: str, *, include: Iterable[str] = (), exclude: Iterable[str] = (), limit: int | None = None
) -> Listing:
    """Every image of the source, sorted by URI; SourceError says why a source cannot be listed or holds none."""
    passed_over: Counter[str] = Counter()
    try:
        found = _find(source, passed_over)
        wanted = [image for image in found if _wanted(image, tuple(include), tuple(exclude))]
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(_explain(error, source)) from error
    if not wanted:
        raise SourceError(_none_found(source, passed_over, filtered=bool(include or exclude)))
    return Listing(source, wanted[:limit], dict(passed_over))


def _find(source: str, passed_over: Counter[str]) -> list[Source]:
    if source.lower().endswith(MANIFEST_EXTENSIONS):
        return list(_from_manifest(source))
    if is_s3(source):
        return sorted(_from_s3(source, passed_over), key=lambda image: image.uri)
    if any(mark in source for mark in "*?[") and not os.path.exists(source):
        return sorted(_from_glob(source, passed_over), key=lambda image: image.uri)
    path = Path(source).expanduser()
    if path.is_dir():
        return sorted(_from_folder(path, passed_over), key=lambda image: image.uri)
    path.stat()  # a file named by itself must be there
    return [_local(path.absolute(), path.absolute().parent)]


def _from_folder(folder: Path, passed_over: Counter[str]) -> Iterator[Source]:
    root = folder.absolute()

    def unreadable(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(Path(parent, name))]
        for name in names:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if _is_image(name, lambda path=path: _first_bytes(path)):
                yield _local(path, root)
            else:
                passed_over[path.suffix.lower() or "no extension"] += 1


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in, which would be listed for ever."""
    return folder.is_symlink() and any(folder.samefile(above) for above in folder.parents)


def _from_glob(pattern: str, passed_over: Counter[str]) -> Iterator[Source]:
    root = Path(pattern.split("*")[0].split("?")[0].split("[")[0]).expanduser().absolute()
    root = root if root.is_dir() else root.parent
    for found in glob.iglob(os.path.expanduser(pattern), recursive=True):
        path = Path(found).absolute()
        if path.is_file():
            if _is_image(path.name, lambda path=path: _first_bytes(path)):
                yield _local(path, root)
            else:
                passed_over[path.suffix.lower() or "no extension"] += 1


def _from_s3(source: str, passed_over: Counter[str]) -> Iterator[Source]:
    fs = s3_filesystem()
    if any(mark in source for mark in "*?["):
        found = fs.glob(source, detail=True)
        root = source.split("*")[0].split("?")[0].split("[")[0].rpartition("/")[0]
    else:
        found = fs.find(source, detail=True)
        root = source
    if not found:
        fs.call_s3("head_bucket", Bucket=source.removeprefix("s3://").split("/")[0])  # tells a missing bucket apart
    for key, info in found.items():
        if info["type"] != "file" or key.endswith("/") or _hidden(key):
            continue
        if _is_image(key, lambda key=key: bytes(fs.cat_file(key, start=0, end=SNIFFED_BYTES))):
            yield _s3_object(key, info, root)
        else:
            passed_over[Path(key).suffix.lower() or "no extension"] += 1


def _from_manifest(manifest: str) -> Iterator[Source]:
    root = manifest.rpartition("/")[0]
    uris = [_absolute(entry, root) for entry in _manifest_entries(manifest)]
    remote = [uri for uri in uris if is_s3(uri)]
    described = _describe_s3(remote) if remote else {}
    for uri in dict.fromkeys(uris):
        if is_s3(uri):
            info = described.get(uri)
            yield _s3_object(uri, info, root) if info else Source(uri=uri, name=uri.rpartition("/")[2], size=0)
        else:
            yield _local(Path(uri), Path(root or ".").absolute())


def _manifest_entries(manifest: str) -> list[str]:
    opened = s3_filesystem().open(manifest, "rb") if is_s3(manifest) else Path(manifest).expanduser().open("rb")
    with opened as file:
        if manifest.lower().endswith(".txt"):
            lines = file.read().decode("utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        import pandas as pd

        table = pd.read_csv(file, dtype=str) if manifest.lower().endswith(".csv") else pd.read_parquet(file)
    columns = {str(name).lower(): name for name in table.columns}
    named = [columns[name] for name in MANIFEST_COLUMNS if name in columns]
    if not named and len(columns) != 1:
        raise SourceError(
            f"The manifest {manifest} has no column of images. Name one of its columns {MANIFEST_COLUMNS[0]!r} "
            f"(it has: {', '.join(map(str, table.columns))})."
        )
    column = table[named[0] if named else table.columns[0]]
    return [str(entry).strip() for entry in column.dropna() if str(entry).strip()]


def _describe_s3(uris: list[str]) -> dict[str, dict[str, Any]]:
    """What S3 knows of each object; objects that are not there are left out."""
    import asyncio

    from fsspec.asyn import sync

    fs = s3_filesystem()

    async def describe() -> list[Any]:
        gate = asyncio.Semaphore(64)

        async def one(uri: str) -> Any:
            async with gate:
                return await fs._info(uri.removeprefix("s3://"))

        return await asyncio.gather(*map(one, uris), return_exceptions=True)

    answers = sync(fs.loop, describe)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer
    return {uri: info for uri, info in zip(uris, answers, strict=True) if not isinstance(info, BaseException)}


def _local(path: Path, root: Path) -> Source:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        status = path.stat()
    except OSError:  # listed by a manifest but gone: the row will say so
        return Source(uri=str(path), name=name, size=0)
    modified = datetime.fromtimestamp(status.st_mtime_ns / 1e9, tz=UTC)
    return Source(uri=str(path), name=name, size=status.st_size, modified=modified)


def _s3_object(key: str, info: dict[str, Any], root: str) -> Source:
    uri = key if is_s3(key) else f"s3://{key}"
    modified = info.get("LastModified")
    etag = str(info.get("ETag") or "").strip('"') or None
    name = uri.removeprefix(root.rstrip("/") + "/") if uri.startswith(root) else uri
    return Source(uri=uri, name=name, size=int(info["size"] or 0), modified=modified, etag=etag)


def _absolute(entry: str, root: str) -> str:
    if is_s3(entry) or os.path.isabs(entry):
        return entry
    if "://" in entry:
        raise SourceError(f"The manifest names {entry}, but images come from local disk or s3://. Download it first.")
    return f"{root}/{entry}" if is_s3(root) else str(Path(root or ".", entry).absolute())


def _is_image(name: str, first_bytes: Any) -> bool:
    from tasks.preparing import is_image_name, sniff_format

    if Path(name).suffix:
        return is_image_name(name)
    return sniff_format(first_bytes()) is not None


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFFED_BYTES)
    except FileNotFoundError:  # a link to nothing
        return b""


def _hidden(key: str) -> bool:
    return key.rpartition("/")[2].startswith(".")


def _wanted(image: Source, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    def matches(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch(image.name, one) or fnmatch(image.name.rpartition("/")[2], one) for one in patterns)

    return (not include or matches(include)) and not matches(exclude)


def _explain(error: Exception, source: str) -> str:
    if is_s3(source) or "botocore" in type(error).__module__:
        return explain_s3(error, source)
    if isinstance(error, FileNotFoundError):
        return f"There is no {source}. Check the path."
    if isinstance(error, PermissionError):
        return f"No permission to read {error.filename or source}. Check its owner and mode."
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
