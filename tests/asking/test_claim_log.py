"""Claims between machines: of all that ask the same one is first, until it is over, and a batch is two requests."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.asking import claim_log
from tasks.asking.claim_log import S3Claims
from tasks.storage.lease import Lease
from tasks.storage.locks import Holder
from tasks.storage.s3 import s3_filesystem
from tests.runs import forget_s3_connections
from tests.s3 import S3Server, noted_requests

KEYS = [f"answers/00/{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_log, "CLAIM_POLL_S3_S", 0.0)


@pytest.fixture
def place(s3_server: S3Server, tmp_path: Path) -> Iterator[str]:
    """A prefix on S3."""
    forget_s3_connections()
    yield f"s3://{s3_server.bucket}/{tmp_path.name}"
    forget_s3_connections()


class Run:
    """A run with its lease and its claims."""

    def __init__(self, place: str, name: str) -> None:
        self.name, self.looks = name, 0
        self.lease = Lease(f"{place}/{name}.json", Holder(name))
        assert self.lease.take()
        self.claims = S3Claims(f"{place}/claiming", name, f"{place}/{name}.json", self._look)

    async def _look(self) -> None:
        self.looks += 1

    def first(self, *keys: str) -> list[bool]:
        async def together() -> list[bool]:
            return await asyncio.gather(*map(self.claims.first, keys))

        return asyncio.run(together())


def blocks(place: str) -> list[int]:
    names: list[str] = s3_filesystem().find(f"{place}/claiming")
    return [int(name.rpartition("/")[2]) for name in names if name.rpartition("/")[2].isdigit()]


def test_a_claim_is_the_runs_whose_lease_lives(place: str) -> None:
    one, other = Run(place, "one"), Run(place, "other")
    assert one.first("key") == [True]
    assert one.first("key") == [True], "it may ask again"
    assert other.first("key") == [False]
    assert one.first("key") == [True], "it was first, whoever came since"
    one.lease.release()
    assert other.first("key") == [True], "the first run is over, and left no answer"
    assert other.looks == 3, "as it began, while it waited, and when the other was over"


def test_of_several_at_once_one_is_first(place: str) -> None:
    runs = [Run(place, f"run-{number}") for number in range(4)]
    with ThreadPoolExecutor(len(runs)) as threads:
        for half in (KEYS[:20], KEYS[20:]):
            firsts = list(threads.map(lambda run, half=half: run.first(*half), runs))
            assert [sum(answers) for answers in zip(*firsts, strict=True)] == [1] * len(half)
    assert len(blocks(place)) == 8


def test_a_batch_of_images_is_two_requests(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(place, "run")
    assert run.first(KEYS[0]) == [True]
    made = noted_requests(monkeypatch)
    assert run.first(*KEYS) == [True] * len(KEYS)
    assert made == ["PUT", "GET"]
    assert run.looks == 1, "nobody else was there since"


def test_who_has_missed_a_block_looks_for_its_answers(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_log, "KEPT_S", 0.0)
    monkeypatch.setattr(claim_log, "TIDY", 1)
    slow, quick = Run(place, "slow"), Run(place, "quick")
    assert slow.first("another") == [True]
    for key in ("key", "more", "last"):
        assert quick.first(key) == [True]
        quick.claims.done(key)
    quick.lease.release()
    assert blocks(place) == [1, 4], "of those that are done with the last stays"
    assert slow.looks == 1
    assert slow.first("key") == [True]
    assert slow.looks == 2, "a number was missing"
    assert blocks(place)[-1] == 5, "a removed number is used by nobody"
    slow.claims.close()
    assert blocks(place) == [5], "what is over goes, but the last"


def test_a_claim_may_be_made_anew_once_it_is_done_with(place: str) -> None:
    one, other = Run(place, "one"), Run(place, "other")
    assert one.first("key") == [True]
    one.claims.done("key")
    one.claims.close()
    one.lease.release()
    assert other.first("key") == [True]


def test_the_next_process_of_a_shard_has_the_claims_of_the_one_before(place: str) -> None:
    """Else each would wait for the other: one that claims after the dead process, and before the one that goes on."""
    before, other = Run(place, "shard"), Run(place, "other")
    assert before.first("key") == [True]
    assert other.first("key") == [False]
    after = S3Claims(f"{place}/claiming", "shard", f"{place}/shard.json", before._look)

    async def ask() -> bool:
        return await after.first("key")

    assert asyncio.run(ask())
