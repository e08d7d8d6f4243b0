"""Images that a manifest names: a table with a column of them, or a text with one a line.

In a text, a line that begins with `#` is a comment, unless a file of that very name lies there; `./#1.jpg` always names
a file. A CSV of one column needs no header: a first line that names an image is taken for one.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tasks.errors import SourceError
from tasks.listing.folders import absolute, local_path, local_source, relative_name
from tasks.listing.kinds import NameFilter
from tasks.listing.objects import describe, s3_source
from tasks.preparing import is_image_name
from tasks.storage.reading import open_file
from tasks.storage.s3 import is_s3, s3_filesystem
from tasks.types import Source

MANIFEST_EXTENSIONS = (".csv", ".parquet", ".txt")
MANIFEST_COLUMNS = ("image", "uri", "url", "path", "file", "filename", "key", "source")
MANIFEST_BYTES = 1_000_000_000  # ten million paths
TOGETHER = 1000  # objects that S3 is asked about before the next ones


def from_manifest(manifest: str, wanted: NameFilter) -> Iterator[Source]:
    """What the manifest names, in its order, each once; what is not there too."""
    manifest = manifest if is_s3(manifest) else os.path.expanduser(manifest)
    root = manifest.rpartition("/")[0]
    folder = Path(absolute(root or "."))
    uris = iter(dict.fromkeys(_absolute(entry, root) for entry in _entries(manifest, root)))
    while some := list(islice(uris, TOGETHER)):
        described = describe([uri for uri in some if is_s3(uri)])
        for uri in some:
            if is_s3(uri):
                facts = described.get(uri)
                image = s3_source(uri, facts, root) if facts else Source(uri, uri.rpartition("/")[2], size=0)
            else:
                image = local_source(uri, relative_name(Path(uri), folder))
            if wanted(image.name):
                yield image


def _entries(manifest: str, root: str) -> list[str]:
    with s3_filesystem().open(manifest, "rb") if is_s3(manifest) else open_file(manifest) as file:
        if file.seek(0, os.SEEK_END) > MANIFEST_BYTES:
            raise SourceError(f"The manifest {manifest} has more than {MANIFEST_BYTES / 1e9:.0f} GB. Split it.")
        file.seek(0)
        found = _lines(file, root) if manifest.lower().endswith(".txt") else _cells(file, manifest, root)
    return [entry for entry in map(str.strip, found) if entry]


def _lines(file: IO[bytes], root: str) -> list[str]:
    lines = map(str.strip, file.read().decode("utf-8-sig", "surrogateescape").split("\n"))
    return [line for line in lines if not line.startswith("#") or _is_file(line, root)]


def _cells(file: IO[bytes], manifest: str, root: str) -> list[str]:
    import pandas as pd

    is_csv = manifest.lower().endswith(".csv")
    table = pd.read_csv(file, dtype=str, keep_default_na=False) if is_csv else pd.read_parquet(file)  # a file may be NA
    column = _column_of_images(table, manifest)
    header = [column] if is_csv and column.lower() not in MANIFEST_COLUMNS and _is_image(column, root) else []
    return header + [os.fsdecode(cell) if isinstance(cell, bytes) else str(cell) for cell in table[column].dropna()]


def _column_of_images(table: Any, manifest: str) -> Any:
    columns = {str(name).lower(): name for name in table.columns}
    named = [columns[name] for name in MANIFEST_COLUMNS if name in columns]
    if not named and len(columns) != 1:
        raise SourceError(
            f"The manifest {manifest} has no column of images. Name one of its columns {MANIFEST_COLUMNS[0]!r} "
            f"(it has: {', '.join(map(str, table.columns))})."
        )
    return named[0] if named else table.columns[0]


def _is_image(entry: str, root: str) -> bool:
    return is_s3(entry) or is_image_name(entry) or _is_file(entry, root)


def _is_file(entry: str, root: str) -> bool:
    """Whether there is such a file on this machine, however little the entry looks like a path."""
    return os.path.isfile(os.path.join(root, entry))  # noqa: PTH113, PTH118  # Path raises for a long comment


def _absolute(entry: str, root: str) -> str:
    if is_s3(entry):
        return entry
    entry = local_path(entry)
    if "://" in entry and not os.path.isabs(entry):
        raise SourceError(f"The manifest names {entry}, but images come from local disk or s3://. Download it first.")
    return f"{root}/{entry}" if is_s3(root) and not os.path.isabs(entry) else absolute(Path(root or ".", entry))
