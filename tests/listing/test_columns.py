"""The columns that a listing is kept in: they give back what they were given, and are small."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.listing.images import CHUNK, collect, collect_sorted
from tasks.types import Source

URIS = some.text(some.sampled_from("aZ/0.- é\udc80\U0001f600"), max_size=8).map("/in/{}".format)


TIMES = some.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=some.just(UTC))  # noqa: DTZ001


SOURCES = some.builds(
    Source,
    uri=URIS,
    name=URIS.map(lambda uri: uri[4:]),
    size=some.integers(0, 2**50),
    modified=some.none() | TIMES,
    etag=some.none() | some.text("0123-", min_size=1),
)


@given(some.lists(SOURCES, max_size=20), some.slices(20))
def test_columns_give_back_what_they_were_given(sources: list[Source], part: slice) -> None:
    images = collect(sources, "/in/")
    assert images == sources == list(images)
    assert images[part] == sources[part]
    assert images[part][::-2] == sources[part][::-2]
    assert [images[place] for place in range(-len(sources), len(sources))] == sources * 2
    assert images.total_bytes == sum(source.size for source in sources)
    assert collect_sorted(sources[:1] + sources, "/in/") == sorted(
        {source.uri: source for source in reversed(sources)}.values(), key=lambda source: source.uri
    )
    with pytest.raises(IndexError):
        images[len(sources)]


def test_columns_are_small_and_cut_in_chunks() -> None:
    when = datetime(2026, 11, 23, tzinfo=UTC)
    count = 3 * CHUNK + 7
    prefix = "s3://a-bucket/a/rather/long/prefix/"
    made = (
        Source(
            f"{prefix}2026/11/23/image-{number:010}.jpg", f"2026/11/23/image-{number:010}.jpg", number, when, "e" * 32
        )
        for number in range(count)
    )
    images = collect(made, prefix)
    assert images.nbytes / count < 120
    assert [image.size for image in images] == list(range(count))
    assert images.total_bytes == count * (count - 1) // 2
    places = [0, CHUNK - 1, CHUNK, 3 * CHUNK, count - 1]
    assert [image.size for image in images.pick(places)] == places
    assert [image.size for image in images[5::CHUNK]] == list(range(5, count, CHUNK))


def test_images_that_come_in_no_order_are_sorted_and_cut_in_chunks_again() -> None:
    count = 2 * CHUNK + 5
    made = [Source(f"/in/{number:06}", f"{number:06}", number) for number in range(count)]
    images = collect_sorted(reversed(made), "/in/")
    assert images == made
    assert images.total_bytes == count * (count - 1) // 2
    assert [image.size for image in images[CHUNK + 1 :: CHUNK]] == [CHUNK + 1, 2 * CHUNK + 1]
    first = collect_sorted(reversed(made), "/in/", limit=3)
    assert first == made[:3]
    assert first.nbytes < 300, "nothing is held of the others"
