"""Chunks: small runs image by image, large runs in shares, finished work skipped before a task run is made."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.listing import Images
from tasks.orchestration.chunks import FIRST, LARGEST, Chunk, Remaining, chunk_size, chunks, identity, row_identity
from tasks.recording.rows import READERS, Row, renewed, source_columns
from tasks.types import Source

SOURCES = [
    Source(
        f"/in/{number:05}.jpg", f"{number:05}.jpg", 100 + number, datetime(2026, 11, 23, 12, 0, number % 60, tzinfo=UTC)
    )
    for number in range(20_000)
]


def finished(source: Source, page: int = 1, **columns: Any) -> dict[str, Any]:
    """A row as a finished chunk keeps it."""
    return {**source_columns(source), "page": page, "status": "ok", "cost_usd": "0.1", "attempts": 2, **columns}


@pytest.mark.parametrize(("images", "size"), [(1, 1), (50, 1), (51, 3), (100, 4), (2_500, 100), (1_000_000, LARGEST)])
def test_task_runs_are_shared_by_more_images_as_runs_grow(images: int, size: int) -> None:
    assert chunk_size(images) == size


@pytest.mark.parametrize("count", [0, 1, 50, 51, 999, 20_000])
def test_every_image_is_in_one_chunk_in_order(count: int) -> None:
    found = list(chunks(None, SOURCES[:count]))
    assert [source for chunk in found for source in chunk.sources] == SOURCES[:count]
    assert [chunk.number for chunk in found] == list(range(1, len(found) + 1))
    assert all(len(chunk.sources) <= chunk_size(count) for chunk in found)
    if count:
        first = len(found[0].sources)
        assert first == min(FIRST, chunk_size(count)), "the first call waits for few images to be prepared"


def test_a_chunk_is_named_by_its_images_and_its_question() -> None:
    run = SimpleNamespace(plan=SimpleNamespace(chunk_prefix="batches/asked"))
    one, two = Chunk(run, 1, SOURCES[:1]), Chunk(run, 2, SOURCES[:3])  # type: ignore[arg-type]
    assert (one.label, two.label) == ("00000.jpg", "00000.jpg and 2 more")
    assert one.key.startswith("batches/asked/") and one.key != two.key
    changed = Chunk(run, 1, [replace(SOURCES[0], size=7)])  # type: ignore[arg-type]
    assert changed.key != one.key


def test_a_name_that_is_no_utf8_names_a_chunk() -> None:
    run = SimpleNamespace(plan=SimpleNamespace(chunk_prefix="batches/asked"))
    odd, other = (Source(f"/in/{name}", name, 1) for name in ("caf\udce9.jpg", "caf\udcea.jpg"))
    one, two = Chunk(run, 1, [odd]), Chunk(run, 1, [other])  # type: ignore[arg-type]
    assert one.label == r"caf\udce9.jpg" and one.key != two.key
    remaining = Remaining([odd, other])
    assert [row["name"] for row in remaining.take([finished(odd)])] == [one.label]
    assert remaining.left == [other]


@pytest.mark.parametrize("code", ["missing", "forbidden", "not_a_file", "interrupted"])
def test_a_file_that_failed_to_be_read_for_a_moment_is_left_whatever_holds_it(code: str) -> None:
    """Stores of earlier versions have finished chunks with such rows, which nothing about the file would change."""
    remaining = Remaining(SOURCES[:2])
    rows = [finished(source, status="unreadable", error_code=code) for source in SOURCES[:1]]
    rows.append(finished(SOURCES[1], status="unreadable", error_code="empty"))
    assert [row["name"] for row in remaining.take(rows)] == [SOURCES[1].name]
    assert remaining.left == SOURCES[:1]


def test_a_file_that_earlier_versions_could_not_read_is_tried_once_more() -> None:
    """What read fewer kinds of files called them damaged; a row of as many readers as there are now lasts."""
    rows = [finished(source, status="unreadable", error_code="damaged") for source in SOURCES[:2]]
    rows[1]["readers"] = READERS
    remaining = Remaining(SOURCES[:2])
    assert [row["name"] for row in remaining.take(rows)] == [SOURCES[1].name]
    assert remaining.left == SOURCES[:1]


def test_a_file_is_the_same_while_its_size_and_etag_or_time_are() -> None:
    source = SOURCES[0]
    assert row_identity(finished(source)) == identity(source)
    assert identity(replace(source, size=1)) != identity(source)
    assert identity(replace(source, modified=datetime(2026, 1, 1, tzinfo=UTC))) != identity(source)
    stored = replace(source, etag="abc")
    assert row_identity(finished(stored)) == identity(stored)
    assert identity(replace(stored, modified=None)) == identity(stored), "an ETag says it all"


def test_finished_files_are_taken_over_and_changed_ones_are_left() -> None:
    same, changed, new = SOURCES[:3]
    remaining = Remaining([same, replace(changed, size=1), new])
    kept = remaining.take([finished(same, page=2), finished(changed), finished(same, page=1)])
    assert remaining.left == [replace(changed, size=1), new]
    assert [(row["name"], row["page"], row["cached"], row["cost_usd"], row["attempts"]) for row in kept] == [
        (same.name, 1, True, "0", 0),
        (same.name, 2, True, "0", 0),
    ]
    assert remaining.take([finished(same)]) == [], "a file has its rows once, whatever other chunks held it"


class Dictionary:
    """`Remaining` at its simplest."""

    def __init__(self, sources: list[Source]) -> None:
        self._left = {identity(source): source for source in sources}

    def take(self, rows: list[Row]) -> list[Row]:
        files = dict.fromkeys(map(row_identity, rows))
        taken = {file: self._left.pop(file) for file in files if file in self._left}
        return [
            renewed(row, source)
            for file, source in taken.items()
            for row in sorted(rows, key=lambda row: row["page"])
            if row_identity(row) == file
        ]

    @property
    def left(self) -> list[Source]:
        return list(self._left.values())


FILES = some.builds(
    Source,
    uri=some.integers(0, 30).map("/in/{}.jpg".format),
    name=some.just("x.jpg"),
    size=some.integers(1, 2),
    modified=some.none() | some.integers(0, 1).map(lambda day: datetime(2026, 11, 23 + day, tzinfo=UTC)),
    etag=some.none() | some.sampled_from(["a", "b"]),
)
ROWS = some.builds(finished, FILES, page=some.integers(1, 3))


@pytest.mark.parametrize("alike", [hash, lambda uri: len(uri), lambda uri: int(uri[4:-4]) % 3 - 2**63])
@given(
    listed=some.lists(FILES, unique_by=lambda source: source.uri, max_size=30),
    kept=some.lists(some.lists(ROWS, max_size=12), max_size=5),
)
def test_what_is_left_is_what_a_dictionary_would_leave(
    alike: Callable[[str], int], listed: list[Source], kept: list[list[Row]]
) -> None:
    """Also where many URIs have the same hash."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.orchestration.chunks.hash", alike, raising=False)
        remaining, simple = Remaining(listed), Dictionary(listed)
        for rows in kept:
            assert remaining.take(rows) == simple.take(rows)
            assert remaining.left == simple.left
            assert list(remaining.left[::3]) == simple.left[::3]


def test_nothing_is_looked_up_until_a_chunk_was_finished() -> None:
    images = Images.of(SOURCES)
    assert Remaining(images).left is images


def test_chunks_of_what_is_left_are_lists_of_their_own() -> None:
    remaining = Remaining(Images.of(SOURCES[:1000]))
    remaining.take([finished(source) for source in SOURCES[100:200]])
    found = list(chunks(None, remaining.left))
    assert [source for chunk in found for source in chunk.sources] == [*SOURCES[:100], *SOURCES[200:1000]]
    found[0].sources.clear()
    assert len(remaining.left) == 900
