"""Packing: no batch above the API's bounds or ours, in order, none left out, and its stated length is the true one."""

import asyncio
from dataclasses import replace

import pytest

from tasks.asking.batches.intents import custom_id, new_word, place_of
from tasks.asking.batches.packing import MOST_BYTES, MOST_REQUESTS, Backlog, Body, Request, fitting
from tasks.asking.halting import Halting
from tasks.asking.pages import BatchSettings
from tasks.asking.question import Bodies, Step
from tests.asking import page, pages, question, steps

STEP = steps()[0]
BODIES = Bodies(caching=False)
API_BYTES, API_REQUESTS = 256_000_000, 100_000  # https://platform.claude.com/docs/en/build-with-claude/batch-processing


def cut(left: list[Request], **most: int) -> list[list[Request]]:
    """All batches that they make."""
    batches = []
    while left:
        count = fitting(left, **most)
        batches.append(left[:count])
        left = left[count:]
    return batches


def of_size(sent: int) -> Request:
    """A request whose image has so many bytes, which are not in memory."""
    one = page(0)
    one.image = replace(one.image, data=b"", sent_bytes=sent)
    return Request(one, STEP)


def test_no_batch_is_above_the_bounds_of_the_api_nor_ours() -> None:
    assert MOST_BYTES == BatchSettings.most_bytes < API_BYTES and MOST_REQUESTS < API_REQUESTS
    tiny = [Request(page(0), STEP)] * 12_001
    assert [len(batch) for batch in cut(tiny)] == [MOST_REQUESTS, MOST_REQUESTS, 2_001]
    sizes = [3_000_000, 9_000_000, 14_000_000, 1, 23_000_000, 100, 40_000_000, 2]
    batches = cut([of_size(size) for size in sizes])
    assert [[one.page.image.sent_bytes for one in batch] for batch in batches] == [
        [3_000_000, 9_000_000],
        [14_000_000, 1],
        [23_000_000, 100],
        [40_000_000],  # alone, whatever the endpoint says to that
        [2],
    ]
    for batch in batches:
        assert len(batch) == 1 or sum(one.most_bytes for one in batch) <= MOST_BYTES
    at_most = cut([of_size(9_000_000) for _ in range(100)], most_bytes=API_BYTES)
    assert [len(batch) for batch in at_most] == [21, 21, 21, 21, 16]


@pytest.mark.parametrize(("sizes", "first"), [([9_000_000] * 4, 2), ([50] * (MOST_REQUESTS + 7), MOST_REQUESTS)])
def test_a_full_batch_leaves_at_once_and_the_rest_waits_for_more(sizes: list[int], first: int) -> None:
    async def work() -> tuple[int, int]:
        backlog = Backlog(MOST_BYTES, Halting(lambda: None))
        backlog.expecting = True
        for size in sizes:
            backlog.add(of_size(size))
        async with asyncio.timeout(5):
            taken = await backlog.batch()
        return len(taken), len(backlog.left())

    assert asyncio.run(work()) == (first, len(sizes) - first)


def test_batches_are_cut_by_bytes_and_the_stated_length_is_the_true_one() -> None:
    step = Step(0, question('Größe? "quoted"\n' * 50, system="Read." * 200))
    left, cut = [Request(page, step) for page in pages(60)], list[list[Request]]()
    while left:
        count = fitting(left, most_bytes=40_000)
        cut.append(left[:count])
        left = left[count:]
    assert [request.page.uri for batch in cut for request in batch] == [page.uri for page in pages(60)]
    assert len(cut) > 1
    for batch in cut:
        body = Body(new_word(), batch, BODIES)

        async def whole(body: Body = body) -> bytes:
            return b"".join([piece async for piece in body])

        assert len(asyncio.run(whole())) == body.size <= 40_000


def test_an_id_names_its_batch_and_its_place_and_nothing_else() -> None:
    word = new_word()
    assert place_of(word, custom_id(word, 99_999)) == 99_999
    for foreign in (None, 5, "", word, f"{word}-", f"{word}--1", f"{word}-²", f"{new_word()}-1", f"{word}-1-1"):
        assert place_of(word, foreign) is None
