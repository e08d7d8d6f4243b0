"""A disk that is full, broken or writes half: the run stops at the first failure, and nothing is paid for twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.asking.journal import LocalJournal
from tasks.errors import OutputError
from tasks.orchestration.store import PrefectStore
from tasks.recording.recovery import recover
from tasks.simulator import Simulator
from tasks.storage import files
from tasks.storage.output import open_output
from tasks.storage.records import Checkpoint, records_of
from tests.asking import asking, pages
from tests.failing_disks import BROKEN, FULL, FailingDisk, power_loss

PAGES = 6
KINDS = {
    "full": {"number": FULL, "reserve": ".reserve"},
    "full, and half is written": {"number": FULL, "reserve": ".reserve", "short": True},
    "broken": {"number": BROKEN},
    "broken, and half is written": {"number": BROKEN, "short": True},
}


@contextmanager
def disk_of(monkeypatch: pytest.MonkeyPatch, disk: files.Disk) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "disk", disk)
        yield


def ask(simulator: Simulator, folder: Path, run_id: str, count: int = PAGES) -> tuple[Counter[str], OutputError | None]:
    """A run without its tables: it takes in what is left of others, asks, and ends as a run does."""
    output = str(folder / "output")
    store = PrefectStore(records_of(output))
    try:
        with asking(simulator.url, folder, store, run_id=run_id, concurrency=2) as asked:
            statuses = Counter(outcome.status for outcome in asked.ask(pages(count), attempts=2))
    except OutputError as error:  # there was no room for the journal in the first place
        return Counter(), error
    halt = asked.engine.halt
    stopped_by = halt.error if halt else None
    assert stopped_by is None or isinstance(stopped_by, OutputError)
    return statuses, stopped_by


def take_in(folder: Path) -> int:
    """What a later run does first; how many calls may have been paid without an answer."""
    output = str(folder / "output")
    journal = LocalJournal(output, "job", f"finds-{time.monotonic_ns()}")
    maybe = recover(open_output(output), "job", journal, PrefectStore(records_of(output)))
    journal.forget()
    return len(maybe)


def operations(simulator: Simulator, home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many writes, syncs and renames an undisturbed run makes."""
    disk = FailingDisk(home, FULL)
    with disk_of(monkeypatch, disk):
        statuses, error = ask(simulator, folder, "undisturbed")
    assert (statuses, error) == ({"ok": PAGES}, None) and disk.done > 5 * PAGES
    return disk.done


# Two of them tell of all: `make test-all` tries each.
QUICK = ("full, and half is written", "broken")


@pytest.mark.parametrize("kind", [pytest.param(one, marks=() if one in QUICK else pytest.mark.all) for one in KINDS])
def test_wherever_the_disk_fails_the_run_stops_and_the_next_pays_for_nothing_twice(
    kind: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulator(ocr=False, latency=0.002) as simulator:
        monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "whole"))
        last = operations(simulator, tmp_path / "whole", tmp_path / "undisturbed", monkeypatch)
        for failing in range(1, last, 2 if kind == "broken" else 3):
            place = tmp_path / f"{failing}"
            monkeypatch.setenv("VISIONFLOW_HOME", str(place / "home"))
            before = simulator.ledger(entries=False)
            disk = FailingDisk(place / "home", fails_from=failing, **KINDS[kind])  # type: ignore[arg-type]
            with disk_of(monkeypatch, disk):
                statuses, error = ask(simulator, place, "fails")
            received = simulator.ledger(entries=False).billed - before.billed
            if not disk.failed:  # calls that end together make fewer operations
                assert failing > 0.7 * last
                break
            if received < PAGES:
                assert error is not None, f"at {failing}: nothing said"
            assert statuses["ok"] == received, f"at {failing}: what was paid for is in the rows"
            assert take_in(place) == 0, f"at {failing}: every call had ended"
            statuses, error = ask(simulator, place, "again")
            assert (statuses, error) == ({"ok": PAGES}, None)
            paid = simulator.ledger(entries=False).billed - before.billed
            assert paid == PAGES, f"failing at {failing}, {paid - PAGES} of {received} were paid for twice"


def test_after_the_first_failure_no_call_leaves(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator(ocr=False, latency=0.05) as simulator:
        disk = FailingDisk(home, BROKEN, fails_from=25)
        with disk_of(monkeypatch, disk):
            statuses, error = ask(simulator, tmp_path, "fails", 40)  # of which six would have had room, or some more
        assert error is not None and statuses["unasked"] >= 20
        assert simulator.ledger().billed == statuses["ok"] < 20
        assert "no more are made" in str(error) or "could not be kept" in str(error)


def test_an_answer_is_durable_before_it_counts_as_kept(
    simulator: Simulator, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes when the run has its answers: records that were not synced are empty, the journal has them."""
    statuses, _ = ask(simulator, tmp_path, "before the lights went out")
    assert statuses == {"ok": PAGES}
    power_loss(home)
    assert take_in(tmp_path) == 0
    assert ask(simulator, tmp_path, "after")[0] == {"ok": PAGES}
    assert simulator.ledger().billed == PAGES


def test_calls_that_end_together_share_an_fsync(
    simulator: Simulator, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(files.Disk):
        synced = 0

        def sync(self, handle: int) -> None:
            self.synced += 1
            time.sleep(0.05)

    slow = Slow()
    with disk_of(monkeypatch, slow):
        store = PrefectStore(records_of(str(tmp_path / "output")))
        with asking(simulator.url, tmp_path, store, concurrency=40) as asked:
            asked.ask(pages(40), attempts=1)
            synced = slow.synced
    assert len(asked.calls) == 40 and synced < 30, "each call alone would have been 40, and 80 with its record"


def test_records_that_cannot_be_made_durable_keep_the_journal(tmp_path: Path) -> None:
    def fails(_: list[str]) -> None:
        raise OSError(BROKEN, "Input/output error")

    checkpoint = Checkpoint(fails)
    checkpoint.written("answers/ab/cd")
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.complete()


ASKS_UNTIL_KILLED = """
import sys
from pathlib import Path
from tasks.orchestration.store import PrefectStore
from tasks.storage.records import records_of
from tests.asking import asking, pages
store = PrefectStore(records_of(str(Path(sys.argv[2]) / "output")))
with asking(sys.argv[1], Path(sys.argv[2]), store, run_id="killed", concurrency=4) as asked:
    asked.ask(pages(1000), attempts=3)
"""


def test_after_a_kill_an_answer_that_only_the_journal_has_is_kept(home: Path, tmp_path: Path) -> None:
    with Simulator(ocr=False, latency=0.02) as simulator:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", ASKS_UNTIL_KILLED, simulator.url, str(tmp_path)]
        process = subprocess.Popen(command, env=environment)
        while simulator.ledger(entries=False).billed < 20:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = simulator.ledger()
        power_loss(home)
        maybe = take_in(tmp_path)
        kept = 0
        for path in (home / "results" / "answers").rglob("*"):
            kept += path.is_file() and bool(path.read_bytes())
        assert before.billed - maybe <= kept <= before.billed
        store = PrefectStore(records_of(str(tmp_path / "output")))
        one = next(path for path in (home / "results" / "answers").rglob("*") if path.is_file() and path.read_bytes())
        record = asyncio.run(store.get(one.relative_to(home / "results").as_posix()))
        assert record is not None and json.dumps(record)
