"""The write-ahead journal: what a run that died had paid for, and what it had sent, is found by the next one."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from tasks.asking.journal import LocalJournal, journal_folder
from tasks.asking.leftovers import leftovers
from tasks.billing.pricing import NANO_USD
from tasks.errors import OutputError
from tasks.recording.recovery import recover
from tasks.recording.writer import TableFile, run_folder, write_table_file
from tasks.simulator import Simulator
from tasks.storage.output import Output, open_output
from tests.asking import JsonStore, asking, pages
from tests.runs import hold, logged, until

STARTED = "2026-11-23T12:00:00+00:00"

ASKS_UNTIL_KILLED = """
import sys
from pathlib import Path
from tests.asking import JsonStore, asking, pages
from tests.runs import until
with asking(sys.argv[1], Path(sys.argv[2]), run_id="killed", concurrency=4) as asked:
    asked.ask(pages(2000), attempts=3)
"""


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return open_output(str(tmp_path / "output"))


def kill_a_run(simulator: Simulator, tmp_path: Path, *, after: int) -> None:
    """SIGKILL a process once so many answers were billed, while four calls are in flight."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ASKS_UNTIL_KILLED, simulator.url, str(tmp_path)]
    process = subprocess.Popen(command, env=environment)
    try:
        until(lambda: simulator.ledger(entries=False).billed >= after)
        hold(simulator, 4)
    finally:
        process.kill()
        process.wait()
    simulator.change(latency=0.0)


@pytest.fixture
def store(tmp_path: Path) -> JsonStore:
    """Where the runs of `asking` keep their answers."""
    return JsonStore(tmp_path / "kept")


@pytest.fixture
def journal(output: Output) -> Iterator[LocalJournal]:
    """The journal of the run that finds what is left."""
    finding = LocalJournal(output.uri, "job", "finding")
    yield finding
    finding.forget()


def test_after_a_kill_every_call_is_accounted_for_and_no_answer_is_paid_twice(
    tmp_path: Path, output: Output, journal: LocalJournal, store: JsonStore
) -> None:
    with Simulator(latency=0.03) as simulator:
        kill_a_run(simulator, tmp_path, after=25)
        before = simulator.ledger()
        maybe = recover(output, "job", journal, store)
        assert len(maybe) == 4, "the calls in flight"
        assert all(call["paid"] == "maybe" and call["started_at"].tzinfo for call in maybe)
        recorded = output.read_table(run_folder("calls", "job", "killed")).to_pylist()
        assert len(recorded) <= before.requests <= len(recorded) + len(maybe), "a call may die before it arrives"
        billed = {entry.request_id: entry.cost_usd.quantize(NANO_USD) for entry in before.entries if entry.billed}
        assert all(billed[call["request_id"]] == call["cost_usd"] for call in recorded)
        in_flight = {call["sent_sha256"] for call in maybe}
        assert {
            entry.image for entry in before.entries if entry.request_id not in {c["request_id"] for c in recorded}
        } <= in_flight
        with asking(simulator.url, tmp_path, run_id="resumed", concurrency=4) as resumed:
            outcomes = resumed.ask(pages(60), attempts=3)
        assert {outcome.status for outcome in outcomes} == {"ok"}
        asked_twice = {call["sent_sha256"] for call in resumed.calls} & {call["sent_sha256"] for call in recorded}
        assert asked_twice <= in_flight, "received answers are used, only calls in flight are repeated"
    assert recover(output, "job", journal, store) == [], "the journals of dead runs are taken in once"


def test_a_live_runs_journal_is_left_alone(output: Output, journal: LocalJournal, store: JsonStore) -> None:
    alive = LocalJournal(output.uri, "job", "alive")
    alive.sent({"call": 1, "started_at": "2026-11-23T12:00:00+00:00"})
    assert recover(output, "job", journal, store) == [] and alive.path.exists()
    alive.close()
    (call,) = recover(output, "job", journal, store)
    assert call["outcome"] == "unknown" and not alive.path.exists()


def test_a_run_that_finds_calls_and_dies_too_hands_them_on(
    output: Output, journal: LocalJournal, store: JsonStore
) -> None:
    first, second = LocalJournal(output.uri, "job", "first"), LocalJournal(output.uri, "job", "second")
    first.sent({"call": 7, "started_at": "2026-11-23T12:00:00+00:00", "image": "a.png"})
    first.close()
    assert len(recover(output, "job", second, store)) == 1
    second.close()
    assert recover(output, "job", journal, store) == [], "it is no call of the second run's own"
    (row,) = output.read_table(run_folder("calls", "job", "second")).to_pylist()
    assert (row["image"], row["paid"], row["call"]) == ("a.png", "maybe", None)


def test_calls_that_reached_the_table_are_not_recorded_again(
    output: Output, journal: LocalJournal, store: JsonStore
) -> None:
    dead = LocalJournal(output.uri, "job", "dead")
    for number in (1, 2, 3):
        row = {"call": number, "started_at": "2026-11-23T12:00:00+00:00", "model": "m"}
        dead.sent(row)
        dead.ended({**row, "cost_usd": Decimal("0.000000123"), "paid": "yes"})
    dead.close()
    written = [{"call": 1, "cost_usd": Decimal("0.000000123"), "paid": "yes"}]
    write_table_file(TableFile(output, "calls", "job", "dead", "part-00000.parquet"), written)
    assert recover(output, "job", journal, store) == []
    rows = output.read_table(run_folder("calls", "job", "dead")).to_pylist()
    assert sorted(row["call"] for row in rows) == [1, 2, 3]
    assert sum(row["cost_usd"] for row in rows) == Decimal("0.000000369")


def dead_run_with_one_part(output: Output) -> tuple[LocalJournal, str, Path]:
    """The journal, the folder and the part of a run whose one call is in its journal and in its table."""
    dead = LocalJournal(output.uri, "job", "dead")
    dead.ended({"call": 1, "started_at": STARTED, "cost_usd": Decimal("0.5"), "paid": "yes"})
    dead.close()
    written = [{"call": 1, "cost_usd": Decimal("0.5"), "paid": "yes"}]
    part = write_table_file(TableFile(output, "calls", "job", "dead", "part-00000.parquet"), written)
    return dead, run_folder("calls", "job", "dead"), Path(part)


def test_a_damaged_part_is_set_aside_and_its_calls_come_from_the_journal(
    output: Output, journal: LocalJournal, store: JsonStore, caplog: pytest.LogCaptureFixture
) -> None:
    _, folder, part = dead_run_with_one_part(output)
    part.write_bytes(part.read_bytes()[:100])
    assert recover(output, "job", journal, store) == []
    assert [row["call"] for row in output.read_table(folder).to_pylist()] == [1]
    (warning,) = logged(caplog)
    aside = f"{output.uri}/.visionflow/damaged/{folder}/part-00000.parquet"
    assert f"{part} is damaged" in warning and f"It was moved to {aside}." in warning and Path(aside).exists()


def test_parts_that_cannot_be_read_now_stop_the_run_and_nothing_is_recorded_twice(
    output: Output, journal: LocalJournal, store: JsonStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails, unlike a file that is damaged, may give out what it holds later."""
    dead, folder, _ = dead_run_with_one_part(output)

    def fails(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(output, "_open", fails)
        with pytest.raises(OutputError, match=f"Cannot read {output.uri}/{folder}"):
            recover(output, "job", journal, store)
    assert dead.path.exists() and output.list(folder) == [f"{folder}/part-00000.parquet"]
    assert recover(output, "job", journal, store) == []
    assert [row["call"] for row in output.read_table(folder).to_pylist()] == [1]


def test_a_name_that_is_no_utf8_does_not_keep_later_runs_from_starting(
    output: Output, journal: LocalJournal, store: JsonStore
) -> None:
    dead = LocalJournal(output.uri, "job", "dead")
    for call in ({"call": 1, "cost_usd": Decimal(1), "error": "half a pair: \ud83d"}, {"call": 2}):
        dead.sent({**call, "started_at": STARTED, "image": "/in/caf\udce9.jpg"})
        if "cost_usd" in call:
            dead.ended({**call, "started_at": STARTED, "image": "/in/caf\udce9.jpg"})
    dead.close()
    assert len(recover(output, "job", journal, store)) == 1
    (row,) = output.read_table(run_folder("calls", "job", "dead")).to_pylist()
    assert (row["image"], row["error"]) == (r"/in/caf\udce9.jpg", r"half a pair: \ud83d")


def in_flight(output: Output, run_id: str) -> LocalJournal:
    """A journal with one call that has not ended."""
    journal = LocalJournal(output.uri, "job", run_id)
    journal.sent({"call": 1, "started_at": STARTED, "image": f"{run_id}.png"})
    return journal


def test_a_journal_that_another_run_takes_in_meanwhile_is_passed_over(output: Output) -> None:
    for name in "ab":
        in_flight(output, name).close()
    looking = leftovers(output.uri, "job")
    first = next(looking)
    (path,) = first.paths
    assert path.name == "a.jsonl"
    path.with_name("b.jsonl").unlink()
    assert list(looking) == []


def test_a_journal_removed_before_it_was_locked_is_opened_anew(output: Output) -> None:
    """A run that starts is taken for a dead one if another looks just then."""
    path = journal_folder(output.uri, "job") / "new.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w") as looked_at, ThreadPoolExecutor() as pool:
        fcntl.flock(looked_at, fcntl.LOCK_EX)
        starting = pool.submit(in_flight, output, "new")
        time.sleep(0.1)
        assert not starting.done()
        path.unlink()
        looked_at.close()
        started = starting.result(60)
    assert started.path == path and "new.png" in path.read_text()
    assert list(leftovers(output.uri, "job")) == [], "it is alive"


def test_a_line_torn_by_the_kill_is_passed_over(output: Output) -> None:
    journal = LocalJournal(output.uri, "job", "dead")
    journal.sent({"call": 1, "started_at": "2026-11-23T12:00:00+00:00"})
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"ended": {"call": 1, "cost_u')
    (left,) = leftovers(output.uri, "job")
    assert [list(entry) for entry in left.entries()] == [["run"], ["sent"]]
    assert left.damaged == [], "that is how a kill ends it"


def test_jobs_and_outputs_have_journals_of_their_own(output: Output) -> None:
    assert journal_folder(output.uri, "a") != journal_folder(output.uri, "b")
    assert journal_folder("s3://bucket/a", "job") != journal_folder("s3://bucket/b", "job")
    assert journal_folder(output.uri, "job") == journal_folder(os.path.relpath(output.uri), "job")


def test_a_call_is_on_disk_before_it_leaves(tmp_path: Path) -> None:
    with Simulator(latency=600.0) as simulator, asking(simulator.url, tmp_path, timeout=90.0) as asked:
        asking_now = asked.engine.submit(pages(1), attempts=1)
        until(lambda: simulator.ledger(entries=False).in_flight)
        _, line = asked.journal.read_text().splitlines()
        simulator.let_go()
        asking_now.result()
    assert json.loads(line)["sent"]["image"] == "images/00000.png"
