"""An answer is asked for by one run at a time: on one machine by locks, between machines by claims on S3."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.asking.claims import Claims
from tasks.asking.question import answer_key
from tasks.simulator import Simulator
from tasks.storage import lease as leases
from tasks.storage.conditional import Found, write_always, write_if
from tasks.storage.lease import Lease
from tasks.storage.locks import Holder, RangeLocks
from tests.asking import asking, pages, question
from tests.runs import draw, end, forget_s3_connections, start, until
from tests.s3 import S3Server


def test_two_engines_that_ask_the_same_at_once_pay_once(tmp_path: Path) -> None:
    """Each with a journal of its own and one store: as two jobs in one home."""

    def ask(name: str) -> list[str]:
        claims = Claims(RangeLocks(tmp_path / "locks"))
        with asking(simulator.url, tmp_path, run_id=name, claims=claims, concurrency=4) as asked:
            outcomes = asked.ask(pages(40), attempts=2)
        return [outcome.status for outcome in outcomes]

    with Simulator(latency=0.05) as simulator, ThreadPoolExecutor(2) as threads:
        statuses = list(threads.map(ask, ["one", "other"]))
        assert statuses == [["ok"] * 40] * 2
        assert simulator.ledger().requests == 40


def test_a_picture_that_another_run_does_not_let_go_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.asking.fallbacks.LONGER_S", 0.0)
    (held,) = pages(1)
    hung = RangeLocks(tmp_path / "locks")
    assert hung.take(answer_key(question(), held.image.sha256))
    with Simulator() as simulator:
        claims = Claims(RangeLocks(tmp_path / "locks"))
        with asking(simulator.url, tmp_path, claims=claims, timeout=3.0) as asked:
            first, *others = asked.ask(pages(3), attempts=1)
        assert (first.status, first.error_code) == ("unavailable", "busy")
        assert [outcome.status for outcome in others] == ["ok", "ok"]
        assert simulator.ledger().requests == 2


def test_locks_on_keys(tmp_path: Path) -> None:
    one, other, elsewhere = (RangeLocks(tmp_path, scope) for scope in ("", "", "s3://b/out"))
    assert one.take("key")
    assert not one.take("key")
    assert not other.take("key")
    assert other.take("another key")
    assert elsewhere.take("key")
    one.close()
    assert other.take("key")


@pytest.mark.usefixtures("prefect_server")
def test_two_jobs_over_the_same_images_with_one_home_pay_once(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(latency=0.2)
    images = draw(tmp_path / "images", 40)
    both = [
        start("run", images, "--output", tmp_path / name, "--concurrency", "2", "--json", "--name", name)
        for name in ("one", "other")
    ]
    ended = [end(process, 180) for process in both]
    assert [each.status for each in ended] == [0, 0], ended
    assert [each.summary["ok"] for each in ended] == [40, 40]
    assert sum(each.summary["calls"] for each in ended) == simulator.ledger().requests == 40


@pytest.mark.all
@pytest.mark.usefixtures("prefect_server")
def test_two_jobs_on_two_machines_with_one_output_on_s3_pay_once(
    simulator: Simulator, tmp_path: Path, s3_server: S3Server
) -> None:
    simulator.change(latency=0.2)
    images = draw(tmp_path / "images", 40)
    both = [
        start(
            *("run", images, "--output", f"s3://{s3_server.bucket}/{tmp_path.name}", "--name", name),
            *("--concurrency", "2", "--json"),
            VISIONFLOW_HOME=tmp_path / name,
        )
        for name in ("one", "other")
    ]
    ended = [end(process, 180) for process in both]
    assert [each.status for each in ended] == [0, 0], ended
    assert [each.summary["ok"] for each in ended] == [40, 40]
    assert sum(each.summary["calls"] for each in ended) == simulator.ledger().requests == 40


@pytest.fixture
def place(s3_server: S3Server, tmp_path: Path) -> Iterator[str]:
    """A prefix on S3."""
    forget_s3_connections()
    yield f"s3://{s3_server.bucket}/{tmp_path.name}"
    forget_s3_connections()


def test_a_lease_changes_hands_when_it_is_released_or_dead(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.3)
    monkeypatch.setattr(leases, "DEAD_S", 4.0)
    lost: list[str] = []
    first, second, third = (Lease(f"{place}/job.json", Holder(name)) for name in ("first", "second", "third"))
    assert first.take()
    first.keep(lost.append)
    assert first.conditional
    assert not any(second.take() or asyncio.run(asyncio.sleep(0.5)) for _ in range(10)), "it is renewed"
    assert second.holder is not None
    assert second.holder.run_id == "first"
    taken = any(third.take(dead_run="first") for _ in range(20))  # the first, still alive, may renew it in between
    assert taken, "whoever knows that it is dead need not wait"
    until(lambda: lost)
    assert lost == ["Another run has taken over: this one gave no sign of life for a minute."]
    assert not second.take()
    asyncio.run(asyncio.sleep(4.2))
    assert second.take(), "the third never renewed it"
    second.release()
    assert third.take()


def test_a_renewal_whose_answer_comes_too_late_loses_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has written it, but the run knows only that the request took too long."""
    monkeypatch.setattr(leases, "RENEW_S", 0.1)
    renewals: list[str] = []

    async def every_other_late(uri: str, data: bytes, before: Found | None) -> Found | None:
        written = await write_if(uri, data, before)
        if written is not None:
            renewals.append(written.etag)
            if len(renewals) % 2:
                raise TimeoutError
        return written

    lost: list[str] = []
    first, second = (Lease(f"{place}/late.json", Holder(name)) for name in ("first", "second"))
    assert first.take()
    monkeypatch.setattr(leases, "write_if", every_other_late)
    first.keep(lost.append)
    until(lambda: lost or len(renewals) >= 5)
    monkeypatch.setattr(leases, "write_if", write_if)
    assert not lost and not second.take()
    first.release()
    assert second.take(), "it was freed by who still had it"


def test_a_store_that_ignores_conditions_is_noticed(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write_if(uri: str, data: bytes, _: object) -> object:
        return await write_always(uri, data)

    monkeypatch.setattr(leases, "write_if", write_if)
    monkeypatch.setattr(leases, "SETTLE_S", 0.1)
    first, second = (Lease(f"{place}/ignored.json", Holder(name)) for name in ("first", "second"))
    assert first.take()
    assert not first.conditional
    assert not second.take()
    first.release()
    assert second.take()
