"""Several processes that ask for one run: together they keep every promise that one engine makes."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.prices import prices_of
from tasks.asking.halting import Halt
from tasks.asking.journal import Journal, journal_folder
from tasks.asking.limits.budget import worst_case
from tasks.asking.limits.spend import Room, SharedSpend
from tasks.asking.processes.engines import share_of
from tasks.asking.records import EngineSettings
from tasks.pricing import NANO_USD
from tasks.recovery import recover
from tasks.schemas import classification_schema, load_schema
from tasks.simulator import Simulator
from tasks.storage import open_output
from tests.asking import Asked, asking, at, page, pages, question, steps
from tests.runs import draw, end, rows, start


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "home"))


def children_of(asked: Asked) -> list[int]:
    """The processes' numbers in the system."""
    return [child._process.pid for child in asked.engine._children]


def journals(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in journal_folder(str(tmp_path / "output"), "job").iterdir())


@given(st.integers(1, 64), st.integers(1, 1000), st.one_of(st.none(), st.floats(0.1, 500)))
def test_the_shares_add_up_to_what_the_job_says(processes: int, concurrency: int, rate: float | None) -> None:
    processes = min(processes, concurrency)
    job = EngineSettings("run", at("http://127.0.0.1:1"), steps(), concurrency=concurrency, per_second=rate)
    shares = [share_of(job, number, processes) for number in range(processes)]
    assert sum(share.concurrency for share in shares) == concurrency and min(s.concurrency for s in shares) >= 1
    assert sum(share.share for share in shares) == pytest.approx(1)
    assert sum(share.per_second or 0 for share in shares) == pytest.approx(rate or 0)


def test_calls_in_flight_and_dollars_add_up(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator, asking(simulator.url, tmp_path, processes=3, concurrency=10) as asked:
        outcomes = asked.engine.ask(pages(120), attempts=3)
        ledger = simulator.ledger()
        assert {outcome.status for outcome in outcomes} == {"ok"}
        assert ledger.peak_in_flight == 10, "as many as the job says, in all"
        assert (ledger.billed, len(asked.calls), asked.engine.progress.done) == (120, 120, 120)
        assert asked.cost.quantize(NANO_USD) == ledger.cost_usd.quantize(NANO_USD)
        numbers = [call["call"] for call in asked.calls]
        assert len(set(numbers)) == 120 and {number % 3 for number in numbers} == {0, 1, 2}, "everybody asked"
    assert {outcome.answer.image for outcome in outcomes if outcome.answer} == {one.uri for one in pages(120)}


def test_copies_are_asked_once_whoever_holds_them(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator, asking(simulator.url, tmp_path, processes=2) as asked:
        folders = [[page(number, f"{folder}/{number}.png") for number in range(20)] for folder in ("a", "b", "c")]
        with ThreadPoolExecutor(3) as pool:
            outcomes = [one for batch in pool.map(lambda b: asked.engine.ask(b, attempts=1), folders) for one in batch]
        assert simulator.ledger().billed == 20
    assert Counter(outcome.duplicate_of is None for outcome in outcomes) == {True: 20, False: 40}


def test_the_cap_holds_for_all_together(tmp_path: Path) -> None:
    with Simulator(latency=0.02) as simulator:
        with asking(simulator.url, tmp_path, concurrency=4) as alone:
            alone.engine.ask(pages(20, start=5000), attempts=1)
        cap = (alone.cost * 10).quantize(NANO_USD)
        with asking(simulator.url, tmp_path, processes=3, concurrency=12, max_cost=cap) as asked:
            outcomes = asked.engine.ask(pages(400), attempts=3)
            assert asked.halt.kind == "paused" and str(cap) in asked.halt.message
            assert alone.cost < asked.cost <= cap
            assert asked.engine.nearly_spent is (asked.cost >= cap * Decimal("0.8"))
    assert Counter(outcome.status for outcome in outcomes).keys() == {"ok", "unasked"}


def test_what_a_killed_process_had_set_aside_keeps_nobody_waiting(tmp_path: Path) -> None:
    with Simulator(latency=1) as simulator:
        one = page(0)
        cap = worst_case(question(), one.image, prices_of("anthropic", question().model)) * Decimal("1.5")
        with (
            asking(simulator.url, tmp_path, processes=2, concurrency=4, max_cost=cap) as asked,
            ThreadPoolExecutor(1) as pool,
        ):
            waiting = pool.submit(asked.engine.ask, pages(40), attempts=1)
            while simulator.ledger(entries=False).in_flight < 1:
                time.sleep(0.01)
            (caller,) = [name for name in journals(tmp_path) if in_flight(tmp_path, name)]
            os.kill(children_of(asked)[int(caller.split(".")[-2])], signal.SIGKILL)
            outcomes = waiting.result(20)
            assert "ended without notice" in asked.halt.message
    assert Counter(outcome.status for outcome in outcomes) == {"unasked": 40}


def in_flight(tmp_path: Path, name: str) -> int:
    """Calls that stand open in a journal."""
    text = (journal_folder(str(tmp_path / "output"), "job") / name).read_text()
    return text.count('"sent"') - text.count('"ended"')


@pytest.mark.parametrize("processes", [1, 2])
def test_whoever_asks_when_all_is_over_is_told_so(tmp_path: Path, processes: int) -> None:
    with Simulator() as simulator:
        with asking(simulator.url, tmp_path, processes=processes) as asked:
            asked.engine.ask(pages(2), attempts=1)
        with ThreadPoolExecutor(1) as pool:
            (late,) = pool.submit(asked.engine.ask, pages(1, start=7), attempts=1).result(10)
    assert (late.status, late.error) == ("unasked", "The run ended early.")


def test_shared_spend_tells_room_to_come_from_none() -> None:
    one, cap = SharedSpend(), Decimal("0.000000010")
    other = SharedSpend(one.fd)
    assert one.reserve(Decimal("0.000000006"), cap) is Room.TAKEN
    assert other.reserve(Decimal("0.000000005"), cap) is Room.LATER
    one.settle(Decimal("0.000000006"), Decimal("0.000000005"))
    assert other.reserve(Decimal("0.000000005"), cap) is Room.TAKEN
    other.settle(Decimal("0.000000005"), Decimal("0.0000000041"))
    assert one.used == Decimal("0.000000010"), "rounded up"
    assert one.reserve(Decimal("0.000000001"), cap) is Room.NEVER


def test_the_first_call_goes_alone_where_it_has_to(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator:
        settings = {"processes": 2, "concurrency": 8, "one_first": True}
        with asking(simulator.url, tmp_path, **settings) as asked, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda start: asked.engine.ask(pages(8, start=start * 8), attempts=1), range(4)))
        first, second, *_ = sorted(simulator.ledger().entries, key=lambda entry: entry.time)
    assert second.time >= first.time + 0.1


def test_a_wrong_question_costs_ten_answers_not_ten_for_each_process(tmp_path: Path) -> None:
    asked_of = steps(question(room=1))
    with Simulator(latency=0.05, faults="max_tokens=1") as simulator:
        settings = {"processes": 2, "concurrency": 2, "steps": asked_of}
        with asking(simulator.url, tmp_path, **settings) as asked:
            asked.engine.ask(pages(200), attempts=1)
            assert "The first 10 images all ended as truncated" in asked.halt.message
    assert asked.engine.progress.statuses["truncated"] < 30


@pytest.mark.parametrize("schema", [load_schema("receipt"), classification_schema(["cat", "dog"])])
def test_a_schema_means_the_same_in_another_process(schema: object) -> None:
    there = pickle.loads(pickle.dumps(schema))
    assert (there.digest, there.api, there.arrow) == (schema.digest, schema.api, schema.arrow)  # type: ignore[attr-defined]
    for text in ('{"label": "cat"}', '{"label": "cow"}', "{", '{"merchant": 3}'):
        assert there.fit(text) == schema.fit(text)  # type: ignore[attr-defined]


def test_when_a_process_is_killed_the_run_stops_and_the_next_one_accounts_for_it(tmp_path: Path) -> None:
    output = open_output(str(tmp_path / "output"))
    with Simulator(latency=0.05) as simulator:
        with asking(simulator.url, tmp_path, run_id="hurt", processes=2, concurrency=8) as hurt:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(hurt.engine.ask, pages(1000), attempts=3)
                while simulator.ledger(entries=False).billed < 100:
                    time.sleep(0.002)
                os.kill(children_of(hurt)[0], signal.SIGKILL)
                outcomes = asked.result(30)
            assert "ended without notice (exit status -9" in hurt.halt.message
            assert Counter(outcome.status for outcome in outcomes).keys() == {"ok", "unasked"}
        hurt.engine.recorded()
        assert journals(tmp_path) == ["hurt.0.jsonl"], "of the process that could not say what became of its calls"
        finding = Journal(output.uri, "job", "finding")
        maybe = recover(output, "job", finding)
        assert 1 <= len(maybe) <= 4
        finding.forget()
        with asking(simulator.url, tmp_path, run_id="again", processes=2, concurrency=8) as again:
            assert {one.status for one in again.engine.ask(pages(1000), attempts=3)} == {"ok"}
        billed = Counter(entry.image for entry in simulator.ledger().entries if entry.billed)
    twice = {image for image, count in billed.items() if count > 1}
    assert twice <= {call["sent_sha256"] for call in maybe}, "only what was in flight is repeated, and it is listed"


ASKS_UNTIL_KILLED = """
import sys
from pathlib import Path
from tests.asking import asking, pages
with asking(sys.argv[1], Path(sys.argv[2]), run_id="killed", concurrency=8, processes=2) as asked:
    asked.engine.ask(pages(1000), attempts=3)
"""


def test_when_the_run_is_killed_its_processes_finish_their_calls_and_end(tmp_path: Path) -> None:
    output = open_output(str(tmp_path / "output"))
    with Simulator(latency=0.3) as simulator:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", ASKS_UNTIL_KILLED, simulator.url, str(tmp_path)]
        with subprocess.Popen(command, env=environment) as process:
            while simulator.ledger(entries=False).billed < 40:
                assert process.poll() is None
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        finding = Journal(output.uri, "job", "finding")
        assert recover(output, "job", finding) == [], "their answers are waited for"
        finding.forget()
        paid = simulator.ledger()
        recorded = output.read_table("calls/job=job/run=killed").to_pylist()
        assert sorted(call["request_id"] for call in recorded) == sorted(e.request_id for e in paid.entries if e.billed)
        assert sum(call["cost_usd"] for call in recorded) == paid.cost_usd.quantize(NANO_USD)
        with asking(simulator.url, tmp_path, run_id="again", concurrency=8) as again:
            again.engine.ask(pages(60), attempts=3)
        assert simulator.ledger().billed == max(60, paid.billed), "nothing is paid twice"


@pytest.mark.usefixtures("prefect_server")
def test_a_whole_run(tmp_path: Path, simulator: Simulator) -> None:
    images = draw(tmp_path / "images", 30)
    arguments = ("run", images, "--output", tmp_path / "out", "--schema", "receipt", "--json", "--workers", 2)
    ended = end(start(*arguments))
    assert ended.status == 0, ended.err
    assert (ended.summary["ok"], ended.summary["calls"], simulator.ledger().billed) == (30, 30, 30)
    calls = rows(ended.summary, "calls")
    assert (
        calls.cost_usd.sum()
        == Decimal(str(ended.summary["cost_usd"]))
        == simulator.ledger().cost_usd.quantize(NANO_USD)
    )
    again = end(start(*arguments))
    assert (again.summary["cached"], again.summary["calls"]) == (30, 0)


def test_a_halt_reaches_every_process(tmp_path: Path) -> None:
    with Simulator(latency=0.1) as simulator, asking(simulator.url, tmp_path, processes=2) as asked:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(asked.engine.ask, pages(500), attempts=1)
            while simulator.ledger(entries=False).billed < 16:
                time.sleep(0.002)
            asked.engine.stop(Halt("interrupted", "Enough."))
            found = Counter(outcome.status for outcome in running.result(30))
        assert found["ok"] == simulator.ledger().billed == len(asked.calls), "calls in flight are finished and kept"
    assert found["unasked"] > 300
