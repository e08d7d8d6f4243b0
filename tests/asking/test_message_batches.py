"""Asking by Message Batch: what is submitted, that nothing is submitted twice, and what the results mean."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.asking.batches.intents import Intended, Intent, IntentLog, custom_id, new_word
from tasks.asking.batches.merging import Result, are_of, results_in
from tasks.asking.batches.packing import Body, Request
from tasks.asking.batches.polling import Gone, Patience, Poller
from tasks.asking.batches.submitting import NotSubmitted, submit
from tasks.asking.batches.wire import Wire
from tasks.asking.client import make_client
from tasks.asking.failures import Failure, Scope
from tasks.asking.pages import Page
from tasks.asking.question import Bodies
from tasks.asking.reply import Received
from tasks.asking.secrets import Secrets
from tasks.errors import EndpointError, OutputError
from tasks.simulator import Simulator
from tests.asking import at, pages, steps
from tests.s3 import S3Server

if TYPE_CHECKING:
    from config.endpoints import Endpoint

STEP = steps()[0]
QUICK = Patience(poll=0.02, slowest_poll=0.05, late=5.0, absent=0.3)
BODIES = Bodies(caching=False)


def requests(some: list[Page]) -> list[Request]:
    return [Request(page, STEP) for page in some]


def asked(count: int) -> list[Intended]:
    return [request.intended() for request in requests(pages(count))]


class Desk(Poller):
    """Submits too."""

    async def submit(self, some: list[Request], bodies: Bodies) -> Intent:
        return await submit(self._wire, self._log, some, bodies, self._secrets)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def at_desk(url: str, folder: Path, work: Callable[[Desk, Wire], Awaitable[Any]], patience: Patience = QUICK) -> Any:
    """Let `work` use a desk whose intents lie below the folder, as a process of its own would."""
    where: Endpoint = at(url)

    async def use() -> Any:
        async with make_client(where, concurrency=4, timeout=20, streams=True) as client:
            wire = Wire(client)
            desk = Desk(wire, IntentLog(str(folder / "intents")), Secrets(""))
            desk.patience = patience
            return await work(desk, wire)

    return asyncio.run(use())


async def collected(desk: Desk, folder: Path) -> list[Result]:
    """What a run does with all that is open."""
    found: list[Result] = []
    async for intent in desk.each():
        settled = await desk.settled(intent, folder)
        if settled is not None:
            path = await desk.collect(settled, await desk.ended(settled), folder)
            found += results_in(path, settled, base_url="http://here", secrets=Secrets(""))
            await desk.done(settled)
    return found


def test_every_request_of_a_batch_comes_back_once(simulator: Simulator, tmp_path: Path) -> None:
    async def work(desk: Desk, _: Wire) -> list[Result]:
        intent = await desk.submit(requests(pages(40)), BODIES)
        assert intent.batch_id is not None
        return await collected(desk, tmp_path)

    results = at_desk(simulator.url, tmp_path, work)
    assert sorted(result.place for result in results) == list(range(40))
    assert all(isinstance(result.end, Received) and result.end.usage for result in results)
    assert len({result.message_id for result in results}) == 40
    for result in results:
        digest = pages(40)[result.place].image.sha256[:12]
        assert isinstance(result.end, Received)
        assert digest in result.end.text  # the simulator names the image: rows are not swapped
    assert IntentLog(str(tmp_path / "intents")).open() == []
    assert (simulator.ledger().batches, simulator.ledger().batch_requests) == (1, 40)


@pytest.mark.parametrize("latency", [0.0, 0.6])
def test_a_lost_reply_is_found_again_and_nothing_submitted_twice(
    simulator: Simulator, tmp_path: Path, latency: float
) -> None:
    simulator.change(batch_faults="lost=1", batch_latency=latency)

    async def submit(desk: Desk, _: Wire) -> None:
        assert (await desk.submit(requests(pages(5)), BODIES)).batch_id is None

    at_desk(simulator.url, tmp_path, submit)  # and the process is gone
    results = at_desk(simulator.url, tmp_path, lambda desk, _: collected(desk, tmp_path))
    assert sorted(result.place for result in results) == list(range(5))
    assert simulator.ledger().batches == 1


def test_a_kill_before_the_reply_was_written_down_leaves_a_batch_that_is_adopted_by_its_content(
    simulator: Simulator, tmp_path: Path
) -> None:
    word = new_word()

    async def killed(_: Desk, wire: Wire) -> None:
        await wire.create(Body("other", requests(pages(3, start=50)), BODIES))  # as many, and somebody else's
        IntentLog(str(tmp_path / "intents")).write(word, asked(3))
        await wire.create(Body(word, requests(pages(3)), BODIES))
        await wire.create(Body("another", requests(pages(3, start=60)), BODIES))

    at_desk(simulator.url, tmp_path, killed)
    results = at_desk(simulator.url, tmp_path, lambda desk, _: collected(desk, tmp_path))
    assert sorted(result.place for result in results) == [0, 1, 2]
    assert all(isinstance(result.end, Received) for result in results)
    assert simulator.ledger().batches == 3


def test_an_orphan_is_known_although_most_of_its_results_are_damaged(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="lost=1")
    some = pages(4)
    simulator.set_faults(script={one.image.sha256[:16]: ["deep"] for one in some[:3]})

    async def work(desk: Desk, _: Wire) -> list[Result]:
        await desk.submit(requests(some), BODIES)
        return await collected(desk, tmp_path)

    results = sorted(at_desk(simulator.url, tmp_path, work), key=lambda result: result.place)
    assert [type(result.end) for result in results] == [Failure] * 3 + [Received]


def test_whose_results_a_batch_has_is_read_from_the_first_line_that_says_so(tmp_path: Path) -> None:
    ours, other = (json.dumps({"custom_id": custom_id(word, 0)}).encode() for word in ("a" * 32, "b" * 32))
    path = tmp_path / "results.jsonl"
    for lines, expected in [
        ([b"{", ours], True),
        ([b"\xff\x00", b"[]", b'{"custom_id": 5}', ours], True),
        ([b"{", other, b"{"], False),
        ([b"{", b"null", b""], None),
    ]:
        path.write_bytes(b"\n".join(lines) + b"\n")
        assert are_of(path, "a" * 32) is expected


def test_where_no_line_says_whose_they_are_nothing_is_asked_again(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="lost=1")
    simulator.set_faults("deep=1")

    async def work(desk: Desk, _: Wire) -> None:
        await desk.submit(requests(pages(2)), BODIES)
        await collected(desk, tmp_path)

    with pytest.raises(EndpointError, match="remove that file to have its images asked again"):
        at_desk(simulator.url, tmp_path, work)
    assert len(IntentLog(str(tmp_path / "intents")).open()) == 1


def test_what_was_never_made_counts_as_that_after_a_minute(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="unmade=1")

    async def work(desk: Desk, _: Wire) -> object:
        intent = await desk.submit(requests(pages(2)), BODIES)
        return await desk.settled(intent, tmp_path)

    assert at_desk(simulator.url, tmp_path, work) is None
    assert IntentLog(str(tmp_path / "intents")).open() == []


def test_a_batch_that_is_not_found_at_first_is_waited_for(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_faults="late=0.4")

    async def work(desk: Desk, _: Wire) -> list[Result]:
        await desk.submit(requests(pages(2)), BODIES)
        return await collected(desk, tmp_path)

    assert len(at_desk(simulator.url, tmp_path, work)) == 2
    simulator.change(batch_faults="late=60")
    with pytest.raises(EndpointError, match="what became of a batch"):
        at_desk(simulator.url, tmp_path, work, replace(QUICK, late=0.2))
    assert simulator.ledger().batches == 2


def test_a_refused_batch_leaves_no_intent(simulator: Simulator, tmp_path: Path) -> None:
    with Simulator(batches=False) as without:

        async def work(desk: Desk, _: Wire) -> None:
            with pytest.raises(NotSubmitted) as refused:
                await desk.submit(requests(pages(1)), BODIES)
            assert refused.value.failure.status == 404
            assert [intent async for intent in desk.each()] == []

        at_desk(without.url, tmp_path, work)


@pytest.mark.parametrize(
    ("fault", "scope", "error_type"),
    [
        ("529", Scope.MOMENT, "overloaded_error"),
        ("429", Scope.MOMENT, "rate_limit_error"),
        ("500", Scope.MOMENT, "api_error"),
        ("expired", Scope.MOMENT, "expired"),
        ("400", Scope.REQUEST, "invalid_request_error"),
        ("400_image", Scope.IMAGE, "image_refused"),
        ("balance", Scope.RUN, "invalid_request_error"),
        ("spend", Scope.RUN, "enforced_spend_limit_reached"),
        ("text_null", Scope.ANSWER, "malformed_answer"),
        ("truncate", Scope.ANSWER, "missing"),
        ("deep", Scope.ANSWER, "missing"),
    ],
)
def test_a_failed_row_means_what_the_same_failure_means_online(
    simulator: Simulator, tmp_path: Path, fault: str, scope: Scope, error_type: str
) -> None:
    simulator.set_faults(f"{fault}=1")

    async def work(desk: Desk, _: Wire) -> list[Result]:
        await desk.submit(requests(pages(3)), BODIES)
        return await collected(desk, tmp_path)

    ends = [result.end for result in at_desk(simulator.url, tmp_path, work)]
    assert len(ends) == 3
    assert {(end.scope, end.error_type) for end in ends if isinstance(end, Failure)} == {(scope, error_type)}


def test_a_cancelled_batch_gives_back_what_was_finished(simulator: Simulator, tmp_path: Path) -> None:
    simulator.change(batch_latency=24.0, batch_faults="slow_cancel=0.2")

    async def work(desk: Desk, wire: Wire) -> list[Result]:
        intent = await desk.submit(requests(pages(12)), BODIES)
        assert intent.batch_id is not None
        while not simulator.ledger().billed:
            await asyncio.sleep(0.02)
        await wire.cancel(intent.batch_id)
        return await collected(desk, tmp_path)

    results = at_desk(simulator.url, tmp_path, work)
    answered = [result for result in results if isinstance(result.end, Received)]
    assert len(results) == 12
    assert len(answered) == simulator.ledger().billed > 0


def test_results_elsewhere_are_asked_of_the_endpoint_itself_and_gone_ones_are_told(
    simulator: Simulator, tmp_path: Path
) -> None:
    async def work(desk: Desk, _: Wire) -> list[Result]:
        await desk.submit(requests(pages(2)), BODIES)
        return await collected(desk, tmp_path)

    simulator.change(batch_faults="elsewhere")
    assert len(at_desk(simulator.url, tmp_path, work)) == 2
    simulator.change(batch_faults="archived")
    with pytest.raises(Gone):
        at_desk(simulator.url, tmp_path, work)


def test_results_lie_in_a_file_for_the_user_alone(simulator: Simulator, tmp_path: Path) -> None:
    async def work(desk: Desk, _: Wire) -> Path:
        intent = await desk.submit(requests(pages(2)), BODIES)
        return await desk.collect(intent, await desk.ended(intent), tmp_path)

    path = at_desk(simulator.url, tmp_path, work)
    assert path.stat().st_mode & 0o077 == 0
    assert [found.name for found in tmp_path.glob("*.part")] == []


def test_a_damaged_intent_stops_before_anything_is_asked_again(tmp_path: Path) -> None:
    log = IntentLog(str(tmp_path))
    intent = log.write(new_word(), asked(1))
    assert log.open() == [intent]
    path = tmp_path / f"{intent.word}.json"
    path.write_bytes(path.read_bytes().replace(b"images/", b"imagez/"))
    with pytest.raises(OutputError, match="Nothing is asked until"):
        log.open()


def test_on_s3_another_machine_finds_what_was_submitted(s3_server: S3Server) -> None:
    place = f"s3://{s3_server.bucket}/facts/.visionflow/batches/receipts"
    assert IntentLog(place).open() == []
    intent = IntentLog(place).write(new_word(), asked(3))
    named = IntentLog(place).named(intent, "msgbatch_1")
    assert IntentLog(place).open() == [named]
    IntentLog(place).done(named)
    IntentLog(place).done(named)  # by whoever was killed in between
    assert IntentLog(place).open() == []
