"""Images that a manifest names: a table with a column of them, or a text with one a line."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tasks.errors import SourceError
from tasks.listing.files import local_source, relative_name
from tasks.listing.kinds import Wanted
from tasks.listing.objects import describe, s3_source
from tasks.records import Source
from tasks.s3 import is_s3, s3_filesystem

MANIFEST_EXTENSIONS = (".csv", ".parquet", ".txt")
MANIFEST_COLUMNS = ("image", "uri", "url", "path", "file", "filename", "key", "source")
TOGETHER = 1000  # objects that S3 is asked about before the next ones


def from_manifest(manifest: str, wanted: Wanted) -> Iterator[Source]:
    """What the manifest names, in its order, each once; what is not there too."""
    root = manifest.rpartition("/")[0]
    folder = Path(root or ".").absolute()
    uris = iter(dict.fromkeys(_absolute(entry, root) for entry in _entries(manifest)))
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


def _entries(manifest: str) -> list[str]:
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


def _absolute(entry: str, root: str) -> str:
    if is_s3(entry):
        return entry
    if "://" in entry and not os.path.isabs(entry):
        raise SourceError(f"The manifest names {entry}, but images come from local disk or s3://. Download it first.")
    return f"{root}/{entry}" if is_s3(root) and not os.path.isabs(entry) else str(Path(root or ".", entry).absolute())
