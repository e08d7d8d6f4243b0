"""Small pictures of the images beside their answers, read again from their originals when the report is made.

So run and `report` have one way, only what is shown is read, and nothing of an image rests anywhere meanwhile. All
foreign bytes are parsed in the preparers' child processes, which encode WebP without metadata.
"""

import base64
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from tasks.errors import ImageError, StopRun
from tasks.preparing.preparers import PreparedFile, Preparers
from tasks.storage.reading import SourceUnavailable
from tasks.storage.s3 import is_s3
from tasks.types import ImageRules, Source

if TYPE_CHECKING:
    from concurrent.futures import Future

EDGE = 480  # pixels: twice its size on the page, for sharp screens
RULES = ImageRules(max_edge=EDGE, quality=60, model_edge=EDGE, model_tokens=10_000, seconds=10.0, webp=True)
BYTES = 8_000_000  # of all, as text in the page
SECONDS = 60.0  # for all; the rest has none

Thumbnails = dict[tuple[str, int], str]  # by image and page: a data URI


def thumbnails(rows: Iterable[Mapping[str, Any]]) -> Thumbnails:
    """Those of the rows' images that can still be read, and are the files that were asked about, within the limits."""
    wanted = {row["image"]: row for row in rows if row.get("source_etag") is not None}
    sources = [Source(uri, row["name"] or uri, row["source_bytes"] or 0) for uri, row in wanted.items()]
    made: Thumbnails = {}
    left, deadline = BYTES, monotonic() + SECONDS
    preparers = Preparers(on_s3=any(is_s3(source.uri) for source in sources))
    try:
        for source, pages in preparers.prepare(sources, RULES):
            pictures = _pictures(pages, wanted[source.uri]["source_etag"], deadline)
            left -= sum(map(len, pictures.values()))
            if left < 0 or monotonic() > deadline:
                break
            made.update({(source.uri, page): picture for page, picture in pictures.items()})
    finally:
        preparers.shutdown(cancel_futures=True)
    return made


def _pictures(pages: "Future[PreparedFile]", etag: str, deadline: float) -> dict[int, str]:
    """A data URI for each page; none of a file that has changed, is gone, or cannot be decoded."""
    try:
        read, prepared = pages.result(timeout=max(deadline - monotonic(), 0))
    except (ImageError, SourceUnavailable, StopRun, OSError):
        return {}
    if read.etag != etag:
        return {}
    return {page.page: f"data:image/webp;base64,{base64.b64encode(page.data).decode()}" for page in prepared}
