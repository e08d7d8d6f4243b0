"""The journal of a shard whose output is on S3: another machine finds in it what the one that has died had sent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.asking import shared_journal
from tasks.asking.answer import Answer, utc_now
from tasks.asking.calls import Journal
from tasks.asking.leftovers import leftovers
from tasks.asking.shared_journal import SharedJournal, blocks_folder
from tasks.billing.usage import Usage
from tasks.errors import BusyError, OutputError
from tasks.orchestration.store import PrefectStore
from tasks.recording.recovery import recover
from tasks.storage.lease import Lease
from tasks.storage.locks import Holder
from tasks.storage.output import Output, open_output
from tasks.storage.records import records_of
from tasks.storage.s3 import s3_filesystem
from tests.runs import forget_s3_connections
from tests.s3 import S3Server

JOB, SHARD = "job", "20260101T000000Z-aaaa.001"


@pytest.fixture
def output(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    monkeypatch.setattr(shared_journal, "BLOCK_S", 0.01)
    forget_s3_connections()
    yield open_output(f"s3://{s3_server.bucket}/{tmp_path.name}")
    forget_s3_connections()


def lease_of(output: Output) -> str:
    return output.join(".visionflow/active/shard.json")


def journal(output: Output, attempt: int) -> SharedJournal:
    return SharedJournal(
        output.uri, JOB, f"{SHARD}-{attempt}", {"lease": lease_of(output), "started_at": utc_now().isoformat()}
    )


def call(number: int, **columns: Any) -> dict[str, Any]:
    return {"call": number, "image": f"{number}.jpg", "started_at": utc_now().isoformat(), **columns}


def sent(noted: Journal, *numbers: int) -> None:
    for number in numbers:
        noted.sent(call(number))
    asyncio.run(noted.may_leave())


def key(number: int) -> str:
    return f"answers/00/{number}"


def answer(number: int) -> dict[str, Any]:
    usage, run_id = Usage(input=10), SHARD.partition(".")[0]
    made = Answer("yes", "end_turn", "m", "req", usage, 3, 100, 40, utc_now(), run_id, f"{number}.jpg")  # type: ignore[arg-type]
    return made.to_record()


def blocks(output: Output) -> list[str]:
    found: list[str] = s3_filesystem().find(blocks_folder(output.uri, JOB))
    return [path for path in found if path.endswith(".jsonl")]


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From now on as on another machine."""
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "elsewhere"))


def test_who_takes_a_shard_over_lists_what_was_in_flight(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PrefectStore(records_of(output.uri))
    dead = journal(output, 0)
    sent(dead, 1, 2, 3)
    dead.ended(call(1, outcome="failed", paid="no", cost_usd="0"))
    received = answer(2)
    dead.ended(call(2, outcome="answered", paid="yes", cost_usd="3"), (key(2), received))  # and died
    asyncio.run(dead.may_leave())

    elsewhere(monkeypatch, tmp_path)
    taking = journal(output, 1)
    maybe = recover(output, JOB, taking, store, shard=SHARD)
    assert [(one["image"], one["paid"]) for one in maybe] == [("3.jpg", "maybe")]
    assert asyncio.run(store.get(key(2))) == received, "it had no record of its own yet"
    calls = output.read_table(f"calls/job={JOB}").select(["call", "outcome", "paid", "cost_usd"]).to_pylist()
    assert [tuple(map(str, one.values())) for one in calls] == [
        ("1", "failed", "no", "0E-9"),
        ("2", "answered", "yes", "3.000000000"),
    ]
    assert recover(output, JOB, taking, store, shard=SHARD) == [], "it is taken in once"
    taking.forget()
    assert blocks(output) == []


def test_what_was_taken_over_passes_on_to_the_next(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes over may die too, before a table has the calls."""
    store = PrefectStore(records_of(output.uri))
    sent(journal(output, 0), 1)
    second = journal(output, 1)
    assert len(recover(output, JOB, second, store, shard=SHARD)) == 1
    asyncio.run(second.may_leave())
    elsewhere(monkeypatch, tmp_path)
    assert recover(output, JOB, journal(output, 2), store, shard=SHARD) == []
    (row,) = output.read_table(f"calls/job={JOB}").to_pylist()
    assert (row["image"], row["paid"], row["call"]) == ("1.jpg", "maybe", None)


def test_many_calls_are_one_request_and_blocks_that_have_served_go(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_journal, "TIDY", 4)
    noted = journal(output, 0)
    sent(noted, *range(1, 101))
    assert len(blocks(output)) == 2, "one says which run it is, one names a hundred calls"
    for number in range(1, 100):
        noted.ended(call(number, paid="yes", cost_usd="0"))
    noted.recorded(98)
    sent(noted, 101)
    sent(noted, 102)
    sent(noted, 103)
    (left,) = leftovers(output.uri, JOB, f"{SHARD}-")
    assert len(blocks(output)) == 1
    said = [next((kind, facts.get("call")) for kind, facts in entry.items()) for entry in left.entries()]
    assert said == [("run", None), ("sent", 100), ("sent", 101), ("sent", 102), ("sent", 103), ("ended", 99)]


def test_a_shard_that_is_at_work_is_left_alone(output: Output) -> None:
    lease = Lease(lease_of(output), Holder(SHARD))
    assert lease.take()
    sent(journal(output, 0), 1)
    assert list(leftovers(output.uri, JOB)) == []
    lease.release()
    assert [left.name for left in leftovers(output.uri, JOB)] == [f"{SHARD}-0"]


def test_a_process_that_is_run_again_does_not_write_over_its_own_journal(output: Output) -> None:
    sent(journal(output, 0), 1)
    with pytest.raises(BusyError, match="was at work before"):
        journal(output, 0)


def test_where_no_block_can_be_written_no_call_leaves(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = journal(output, 0)

    async def away(*_: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(shared_journal, "write_object", away)
    monkeypatch.setattr(shared_journal, "AWAY_S", 0.0)
    with pytest.raises(OutputError, match="Calls cannot be written down, so no more are made"):
        sent(noted, 1)
    with pytest.raises(OutputError):
        noted.sent(call(2))
