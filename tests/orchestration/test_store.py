"""Keeping answers in Prefect's result store: at once, as JSON, where any later run finds them."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.errors import OutputError
from tasks.orchestration.chunks import Remaining
from tasks.orchestration.store import PrefectStore
from tasks.recording.rows import source_columns
from tasks.storage.records import records_of
from tasks.types import Source
from tests.runs import forget_s3_connections
from tests.s3 import S3Server

RECORD = {"text": "Tổng cộng 12,50", "cost_usd": "0.000123", "usage": {"input": 1}}


def row(name: str, **columns: object) -> dict[str, object]:
    """A row of a finished chunk."""
    asked = {"model": "m", "endpoint": "simulator", "preset": "ocr", "cost_usd": "0", "kept_usd": "0.000123"}
    source = Source(f"/in/{name}", name, 1, datetime(2026, 11, 23, tzinfo=UTC))
    return {**source_columns(source), **asked, "status": "ok", "cached": False, **columns}


def test_a_record_is_a_json_file_at_once_and_found_again(home: Path) -> None:
    store = PrefectStore(records_of("/anywhere/out"))
    assert asyncio.run(store.get("answers/ab/cd")) is None
    asyncio.run(store.put("answers/ab/cd", RECORD))
    stored = json.loads((home / "results" / "answers" / "ab" / "cd").read_text())
    assert json.loads(stored["result"]) == RECORD
    assert asyncio.run(PrefectStore(records_of("/elsewhere")).get("answers/ab/cd")) == RECORD


@pytest.mark.parametrize("torn", [b"", b'{"metadata": {"stor', b"\xff\xfe\x00", b'{"metadata": {}, "result": "[1]"}'])
def test_a_torn_record_is_a_miss(home: Path, torn: bytes) -> None:
    store = PrefectStore(records_of("/anywhere/out"))
    asyncio.run(store.put("answers/ab/cd", RECORD))
    (home / "results" / "answers" / "ab" / "cd").write_bytes(torn)
    assert asyncio.run(store.get("answers/ab/cd")) is None


def test_finished_chunks_are_listed_and_torn_ones_left_out(home: Path) -> None:
    store = PrefectStore(records_of("/anywhere/out"))
    assert list(store.finished("batches/q")) == []
    for age, name in enumerate(("one", "two", "three")):
        store.keep_finished(f"batches/q/{name}", [row(name)], whole=True)
        os.utime(home / "results" / "batches" / "q" / name, (1e9 - age, 1e9 - age))
    store.keep_finished("batches/r/one", [row("of another question")], whole=True)
    (home / "results" / "batches" / "q" / "three").write_bytes(b'{"me')
    assert list(store.finished("batches/q")) == [[row("one")], [row("two")]]


@pytest.mark.parametrize("newest", ["one", "two", "three-finished"])
def test_of_a_file_in_several_finished_chunks_the_newest_row_is_served(home: Path, newest: str) -> None:
    store = PrefectStore(records_of("/anywhere/out"))
    source = Source("/in/a.jpg", "a.jpg", 1, datetime(2026, 11, 23, tzinfo=UTC))
    for name in ("one", "two"):
        store.keep_finished(f"batches/q/{name}", [row("a.jpg", answer=name)], whole=True)
    store.keep_finished("batches/q/three", [row("a.jpg", answer="three-finished")], whole=False)
    os.utime(home / "results" / "batches" / "q" / newest, (4e9, 4e9))
    remaining = Remaining([source])
    assert [row["answer"] for rows in store.finished("batches/q") for row in remaining.take(rows)] == [newest]


def test_a_finished_chunk_that_cannot_be_read_is_an_error_of_one_line(home: Path) -> None:
    (home / "results" / "batches" / "q").mkdir(parents=True)
    (home / "results" / "batches" / "q" / "one").symlink_to("/proc/self/mem")  # as root or not, it cannot be read
    with pytest.raises(OutputError, match=f"Cannot read {home}/results/batches/q"):
        list(PrefectStore(records_of("/anywhere/out")).finished("batches/q"))


def test_a_full_disk_is_an_error_not_a_silent_loss(home: Path) -> None:
    store = PrefectStore(records_of("/anywhere/out"))
    (home / "results").mkdir(parents=True)
    (home / "results" / "answers").write_text("a file in the way, as root or not")
    with pytest.raises(OSError, match="answers"):
        asyncio.run(store.put("answers/ab/cd", RECORD))


@pytest.mark.usefixtures("prefect_server")
def test_on_s3_answers_lie_beside_the_results(s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_s3_connections()
    output = f"s3://{s3_server.bucket}/beside"
    store = PrefectStore(records_of(output))

    async def use(store: PrefectStore) -> None:
        assert await store.get("answers/ab/cd") is None
        await store.put("answers/ab/cd", RECORD)
        assert await store.get("answers/ab/cd") == RECORD

    asyncio.run(use(store))
    store.keep_finished("batches/q/one", [row("one")], whole=True)
    assert list(store.finished("batches/q")) == [[row("one")]]
    assert list(store.finished("batches/none")) == []
    listed = s3_server.client().list_objects_v2(Bucket=s3_server.bucket, Prefix="beside/")["Contents"]
    batch, pack = (entry["Key"] for entry in listed)
    assert batch == "beside/.visionflow/batches/q/one"
    assert pack.startswith("beside/.visionflow/packs/")
    assert not (home / "results").exists()


@pytest.mark.usefixtures("prefect_server")
def test_while_s3_is_away_an_answer_is_kept_here(
    s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"s3://{s3_server.bucket}/away"
    forget_s3_connections()
    storage = records_of(output)
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away.setenv("AWS_MAX_ATTEMPTS", "1")
        forget_s3_connections()
        with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
            asyncio.run(PrefectStore(storage).put("answers/ab/cd", RECORD))
    forget_s3_connections()
    assert asyncio.run(PrefectStore(records_of(output)).get("answers/ab/cd")) == RECORD


def test_an_answer_kept_here_is_newer_than_the_one_in_the_store(home: Path) -> None:
    """It was paid for while the store was away, perhaps because the older one had been cut off."""
    (home / "results").mkdir(parents=True)
    place = records_of("/anywhere/out")
    older, newer, newest = ({**RECORD, "text": text} for text in ("older", "newer", "newest"))
    store = PrefectStore(place)
    asyncio.run(store.put("answers/ab/cd", older))
    (home / "results" / "answers" / "ab").rename(home / "away")
    (home / "results" / "answers" / "ab").write_text("a file in the way, as root or not")
    with pytest.raises(OSError, match="answers"):
        asyncio.run(store.put("answers/ab/cd", newer))
    (home / "results" / "answers" / "ab").unlink()
    (home / "away").rename(home / "results" / "answers" / "ab")
    for one in (store, PrefectStore(place)):
        assert asyncio.run(one.get("answers/ab/cd")) == newer
    asyncio.run(store.put("answers/ab/cd", newest))
    assert not (home / "unsaved" / "answers" / "ab" / "cd").exists()
    assert asyncio.run(store.get("answers/ab/cd")) == asyncio.run(PrefectStore(place).get("answers/ab/cd")) == newest


def test_on_s3_the_newest_finished_chunk_comes_first_and_a_refusal_is_one_line(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_s3_connections()
    storage = records_of(f"s3://{s3_server.bucket}/newest")
    for name in ("b", "a", "c"):
        PrefectStore(storage).keep_finished(f"batches/q/{name}", [row(name)], whole=True)
        time.sleep(1.1)  # S3 tells whole seconds
    assert list(PrefectStore(storage).finished("batches/q")) == [[row(name)] for name in "cab"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget_s3_connections()
    with pytest.raises(OutputError, match=r"s3://pictures/newest/.visionflow/batches/q.*Check AWS_ACCESS_KEY_ID"):
        list(PrefectStore(storage).finished("batches/q"))
    forget_s3_connections()
