"""Answers on S3 in packs: few requests, whichever process wrote them, and those of earlier versions beside them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.orchestration.store import PrefectStore
from tasks.storage import packs
from tasks.storage.grouped import Grouped
from tasks.storage.records import records_of, sealed
from tasks.storage.s3 import now, s3_filesystem, write_object
from tests.runs import forget_s3_connections
from tests.s3 import S3Server, noted_requests

MANY = 100


@pytest.fixture
def output(s3_server: S3Server, tmp_path: Path) -> Iterator[str]:
    forget_s3_connections()
    yield f"s3://{s3_server.bucket}/{tmp_path.name}"
    forget_s3_connections()


@pytest.fixture
def requests(output: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of all requests made to the server."""
    return noted_requests(monkeypatch)


def store_of(output: str) -> PrefectStore:
    """As another process opens it."""
    return PrefectStore(records_of(output))


def key(number: int) -> str:
    return f"answers/00/{number}"


def put(store: PrefectStore, *numbers: int, text: str = "") -> None:
    async def together() -> None:
        await asyncio.gather(*(store.put(key(number), {"text": text, "number": number}) for number in numbers))

    asyncio.run(together())


def found(store: PrefectStore, *numbers: int) -> list[Any]:
    async def together() -> list[Any]:
        return list(await asyncio.gather(*(store.get(key(number)) for number in numbers)))

    return asyncio.run(together())


def packs_in(output: str) -> list[str]:
    names: list[str] = s3_filesystem().find(f"{output}/.visionflow/packs")
    return [name for name in names if not name.endswith("/packs")]


def test_answers_of_a_moment_are_one_request_and_so_is_finding_them(output: str, requests: list[str]) -> None:
    store = store_of(output)
    assert found(store, *range(MANY)) == [None] * MANY
    assert requests == ["GET", "GET"], "are there packs, and answers of earlier versions?"
    requests.clear()
    put(store, *range(MANY))
    assert requests == ["PUT"]
    requests.clear()
    assert found(store, MANY) == [None]
    assert requests == [], "what it lacks it knows"
    assert [answer["number"] for answer in found(store_of(output), *range(MANY))] == list(range(MANY))
    assert requests == ["GET"] * 4, "two listings, the pack, and the answers in it"


def test_small_packs_become_large_ones_and_who_reads_them_goes_on(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "GATHER_S", 0.0)
    writer, reader = store_of(output), store_of(output)
    for number in range(3):
        put(writer, number)
    assert found(reader, 0)[0]["number"] == 0
    assert len(packs_in(output)) == 3
    writer.sync()
    assert len(packs_in(output)) == 1
    assert [answer["number"] for answer in found(reader, 0, 1, 2)] == [0, 1, 2]
    assert [answer["number"] for answer in found(store_of(output), 0, 1, 2)] == [0, 1, 2]
    monkeypatch.setattr(packs, "FULL", 300)
    put(writer, 3)
    put(writer, 4)
    assert len(packs_in(output)) == 2, "two that are large together"


def test_the_later_of_two_answers_is_meant_in_whatever_packs_they_are(output: str) -> None:
    first, second = store_of(output), store_of(output)
    assert found(first, 1) == [None]
    put(first, 1, text="older")
    put(second, 1, text="newer")
    for store in (second, store_of(output)):
        assert found(store, 1)[0]["text"] == "newer"
    assert found(first, 1)[0]["text"] == "older", "until it looks again"
    asyncio.run(first.look_again())
    assert found(first, 1)[0]["text"] == "newer"


def test_answers_that_earlier_versions_wrote_one_by_one_are_found(output: str) -> None:
    envelope = {"metadata": {"serializer": {"type": "json"}}, "result": json.dumps({"number": 7})}
    body = sealed(json.dumps(envelope).encode(), key(7))
    now(write_object, f"{output}/.visionflow/{key(7)}".removeprefix("s3://"), body)
    store = store_of(output)
    put(store, 8)
    assert [answer and answer["number"] for answer in found(store, 7, 8, 9)] == [7, 8, None]
    assert set(records_of(output).times("answers")) == {key(7), key(8)}


def test_what_comes_up_while_one_group_is_sent_goes_with_the_next() -> None:
    sent: list[list[int]] = []

    async def send(items: list[int]) -> None:
        sent.append(items)
        await asyncio.sleep(0.02)
        if 3 in items:
            raise ConnectionError("away")

    async def use() -> list[object]:
        grouped = Grouped(send)

        async def later(item: int) -> None:
            await asyncio.sleep(0.01)
            await grouped.add(item)

        first = [grouped.add(item) for item in (0, 1, 2)]
        return await asyncio.gather(*first, *map(later, (3, 4)), return_exceptions=True)

    ended = asyncio.run(use())
    assert sent == [[0, 1, 2], [3, 4]]
    assert [type(one) for one in ended] == [type(None)] * 3 + [ConnectionError] * 2
