"""Which rows a report shows with their images, which as a line of text, and how a person reads an answer.

Small pictures are made of the originals when the report is, so that run and `report` have one way, only what is shown
is read, and nothing of an image rests anywhere meanwhile. All foreign bytes are parsed in preparing's child
processes, which encode WebP without metadata.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import ImageError, StopRun
from tasks.preparing.threads import PreparedFile, PrepareThreads
from tasks.recording.rows import Reviews
from tasks.reporting import figures
from tasks.schemas.boxes import corners
from tasks.storage.reading import SourceUnavailable
from tasks.storage.s3 import is_s3
from tasks.types import ImageRules, Source

if TYPE_CHECKING:
    from concurrent.futures import Future

CARDS = 200  # rows with image and all fields; those to review are at most half of them
FAILURES = 200  # listed with their reasons
LINES = 10_000  # rows as a line of text
LINE_BYTES = 4_000_000  # of their answers
LINE_CHARACTERS = 240
COLUMNS = ["name", "image", "page", "status", "error_code", "error", "answer", "note", "cost_usd", "latency_ms"]
COLUMNS += ["source_bytes", "source_etag", "source_width", "source_height", "result"]
COLUMNS += ["needs_review", "agreement", "second_answer", "evidence"]

Row = Mapping[str, Any]


@dataclass
class Gallery:
    """Rows to show: failed ones first, then those a person should review, then a sample of the others.

    Each row stands in one of the lists; what is in none of them stands in the table alone.
    """

    failed: list[Row] = field(default_factory=list)
    review: list[Row] = field(default_factory=list)
    good: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)
    reviews: Reviews = field(default_factory=Reviews)
    pictures: dict[tuple[str, int], str] = field(default_factory=dict)  # data URIs by image and page
    paged: set[str] = field(default_factory=set)  # which of the images have more than one page

    @property
    def cards(self) -> list[Row]:
        """Those with image and fields."""
        return [*self.review, *self.good]

    @property
    def pictured(self) -> list[Row]:
        """Those whose image is shown where it can be read."""
        return [*self.failed, *self.cards]


def gallery(parts: Iterable[pa.Table], ok: int) -> Gallery:
    """Chosen from one part after another; of the good rows every n-th is shown whole, so that the sample is spread."""
    shown, stride, seen, used = Gallery(), max(1, -(-ok // (CARDS // 2))), 0, 0
    for part in parts:
        shown.reviews.add_part(part)
        for row in _rows(part, len(shown.lines)):
            if row["status"] != "ok":
                group, most = shown.failed, FAILURES
            elif row.get("needs_review"):
                group, most = shown.review, CARDS // 2
            else:
                group, most, seen = shown.good, CARDS // 2, seen + 1
            if len(group) < most and (group is not shown.good or seen % stride == 0 or stride == 1):
                group.append(row)
            elif len(shown.lines) < LINES and used < LINE_BYTES:
                line = {name: row[name] for name in ("name", "image", "page", "status")} | {"text": one_line(row)}
                used += len(line["text"])
                shown.lines.append(line)
        second = figures.with_second_page(part)
        shown.paged.update(row["image"] for row in shown.pictured if row["page"] > 1 or row["image"] in second)
    return shown


def _rows(part: pa.Table, lines: int) -> Iterator[Row]:
    """All rows; once enough lines were taken, only those that may be shown whole."""
    part = part.select([name for name in COLUMNS if name in part.column_names])
    part = part.filter(pc.not_equal(part["status"], "unasked"))
    if lines >= LINES:
        looked_for = figures.failed(part)
        if "needs_review" in part.column_names:
            looked_for = pc.or_(looked_for, pc.fill_null(part["needs_review"], False))
        part = part.filter(looked_for).slice(0, FAILURES + CARDS // 2)
    yield from part.to_pylist()


def differing(row: Row) -> list[tuple[str, float]]:
    """The fields in which two readings do not agree, the worst first, each with its agreement."""
    found = [(name, share) for name, share in (row.get("agreement") or {}).items() if share is not None and share < 1]
    return sorted(found, key=lambda one: one[1])


def one_line(row: Row) -> str:
    """An answer, or why there is none, as one line of bearable length."""
    if row["status"] != "ok":
        text = row["error"] or ""
    elif row.get("result") is not None:
        text = _flat(row["result"])
    else:
        text = row["answer"] or ""
    text = " ".join(text[: 4 * LINE_CHARACTERS].split())
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}…"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list):
        return "; ".join(map(_flat, value))
    return people(value)


def people(value: Any) -> str:
    """A value as a person writes it: 1,234.50, 2018, 2018-12-25, yes."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value) if -10_000 < value < 10_000 else f"{value:,}"
        case Decimal():
            whole, _, rest = f"{value:,f}".partition(".")  # digit by digit: arithmetic knows 28 of them
            return f"{whole}.{rest.rstrip('0'):0<2}"
        case float():
            return f"{value:,.10g}"
        case date():
            return value.isoformat()
    return str(value)


def shape(value: Any) -> str:
    """How a value is laid out: box, fields, table, list or text."""
    if isinstance(value, Mapping):
        return "box" if corners(value) else "fields"
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        return "map"
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return "table"
    return "list" if isinstance(value, list) else "text"


def evidence(row: Row) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Where each value was read, with the field's name."""
    for name, box in (row.get("evidence") or {}).items():
        if box is not None and (sides := corners(box)):
            yield name, sides


def link(uri: str) -> str | None:
    """Where the original opens: a file of this machine, or its S3 URI."""
    if is_s3(uri):
        return f"s3://{quote(uri.removeprefix('s3://'))}"
    return Path(uri).as_uri() if Path(uri).is_absolute() else None


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
    threads = PrepareThreads(on_s3=any(is_s3(source.uri) for source in sources))
    try:
        for source, pages in threads.prepare(sources, RULES):
            pictures = _pictures(pages, wanted[source.uri]["source_etag"], deadline)
            left -= sum(map(len, pictures.values()))
            if left < 0 or monotonic() > deadline:
                break
            made.update({(source.uri, page): picture for page, picture in pictures.items()})
    finally:
        threads.shutdown(cancel_futures=True)
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
