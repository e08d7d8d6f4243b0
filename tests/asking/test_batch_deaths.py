"""A run by batch is killed (SIGKILL) at every step of a batch's life; the next one asks, pays and lists each once."""

import os
import signal
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks.asking import batches as batch_room
from tasks.asking.batches import packing
from tasks.asking.batches.intents import IntentLog
from tasks.asking.batches.polling import Patience
from tasks.asking.batches.wire import Wire
from tasks.asking.journal import LocalJournal
from tasks.asking.pages import BatchSettings
from tasks.recording.reading_back import ended_requests
from tasks.recording.recovery import recover
from tasks.simulator import Simulator
from tasks.storage.output import open_output
from tests.asking import Asked, JsonStore, asking, pages_again, statuses
from tests.s3 import S3Server

IMAGES = 8
FAULTS = ("529", "expired", "500", "refusal")
FIRST, LATER = "20261123T000000Z-dies", "20261123T000100Z-next"

# What is done when the process dies, as (where, method, at which call of it, whether before the call).
DEATHS = {
    "nothing": (IntentLog, "write", 1, True),
    "the intent is written": (IntentLog, "write", 1, False),
    "the batch is created": (Wire, "create", 1, False),
    "its id is written": (IntentLog, "named", 1, False),
    "the results are downloaded": (Wire, "results", 1, False),
    "an answer is in the journal alone": (LocalJournal, "durable", 2, False),
    "an answer is kept": (JsonStore, "put", 2, False),
    "all is kept, and the intent is still there": (IntentLog, "done", 1, True),
}

QUICK = ("the batch is created", "an answer is in the journal alone")


def by_batch(url: str, folder: Path, intents: str, run_id: str) -> Any:
    """An engine that asks by batch, and knows what the tables list."""
    output = open_output(str(folder / "output"))
    how = BatchSettings(
        intents, folder / "reading", absent=0.3, ended_requests=partial(ended_requests, output, ["job"])
    )
    return asking(url, folder, batches=how, run_id=run_id)


def die_at(death: str) -> None:
    """From now on the process dies there."""
    where, name, number, before = DEATHS[death]
    original, calls = getattr(where, name), iter(range(1, 1_000_000))

    def due() -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def dies(*arguments: Any, **more: Any) -> Any:
        if before:
            due()
        result = original(*arguments, **more)
        if not before:
            due()
        return result

    async def dies_later(*arguments: Any, **more: Any) -> Any:
        result = await original(*arguments, **more)
        due()
        return result

    waits = name in ("create", "results", "durable", "put")
    setattr(where, name, dies_later if waits else dies)


def hurry(patch: Any) -> None:
    patch(packing, "QUIET_S", 0.1)
    patch(batch_room, "Patience", partial(Patience, poll=0.02, slowest_poll=0.05, late=3.0))


def take_in(folder: Path) -> None:
    """What a run does first: the journals of dead ones become rows of `calls`."""
    journal = LocalJournal(str(folder / "output"), "job", f"{LATER}-takes")
    assert recover(open_output(str(folder / "output")), "job", journal, JsonStore(folder / "kept")) == []
    journal.forget()


def all_calls(folder: Path, asked: Asked) -> list[dict[str, Any]]:
    """Those in the tables, of runs that died, and the last run's."""
    parts = open_output(str(folder / "output")).read_parts("calls")
    return [row for part in parts for row in part.to_pylist()] + asked.calls


def killed(url: str, folder: Path, intents: str, death: str) -> None:
    """A process of its own that dies so."""
    command = [sys.executable, "-m", "tests.asking.test_batch_deaths", url, str(folder), intents, death]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL


def goes_on(simulator: Simulator, folder: Path, intents: str) -> list[dict[str, Any]]:
    """The same again: every image has its answer, nothing is in two batches, and no intent is left."""
    with by_batch(simulator.url, folder, intents, LATER) as later:
        some = pages_again(IMAGES)
        ended = statuses(later.ask(some, attempts=3))
    assert ended == {"ok": IMAGES - 1, "refused": 1}
    assert IntentLog(intents).open() == []
    assert sum(one.spent for one in some) == later.cost, "rows and calls agree"
    return all_calls(folder, later)


def nothing_twice(simulator: Simulator, calls: list[dict[str, Any]]) -> None:
    """Every request of every batch is listed once, to the last digit; failed ones were asked again once."""
    ledger = simulator.ledger()
    assert len(calls) == ledger.batch_requests == IMAGES + len(FAULTS) - 1
    assert sum((call["cost_usd"] for call in calls), Decimal(0)) == ledger.cost_usd > 0
    ids = Counter(call["request_id"] for call in calls if call["paid"] == "yes")
    assert len(ids) == ledger.billed and set(ids.values()) == {1}
    assert {call["paid"] for call in calls} == {"yes", "no"}


@pytest.fixture
def troubled(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Some requests fail for a moment."""
    hurry(monkeypatch.setattr)
    asked = pages_again(IMAGES)
    simulator.set_faults(script={one.image.sha256[:16]: [fault] for one, fault in zip(asked, FAULTS, strict=False)})
    return simulator


@pytest.mark.parametrize(
    "death", [death if death in QUICK else pytest.param(death, marks=pytest.mark.all) for death in DEATHS]
)
def test_whenever_it_is_killed_nothing_is_asked_or_listed_twice(
    troubled: Simulator, tmp_path: Path, death: str
) -> None:
    intents = str(tmp_path / "submitted")
    killed(troubled.url, tmp_path, intents, death)
    take_in(tmp_path)
    nothing_twice(troubled, goes_on(troubled, tmp_path, intents))


@pytest.mark.parametrize(
    "death",
    [
        pytest.param("the batch is created", marks=pytest.mark.all),
        "an answer is in the journal alone",
        pytest.param("an answer is kept", marks=pytest.mark.all),
    ],
)
def test_another_machine_goes_on_and_what_the_dead_one_comes_back_with_is_known(
    troubled: Simulator, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    """Intents lie on S3, answers where both machines find them, each journal on its own machine."""
    intents = f"s3://{s3_server.bucket}/{tmp_path.name}/.visionflow/submitted/job"
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "here"))
    killed(troubled.url, tmp_path, intents, death)
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "there"))
    take_in(tmp_path)
    there = goes_on(troubled, tmp_path, intents)
    nothing_twice(troubled, there)
    write_down(tmp_path, there)
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "here"))
    take_in(tmp_path)
    nothing_twice(troubled, open_output(str(tmp_path / "output")).read_table("calls").to_pylist())


def write_down(folder: Path, calls: list[dict[str, Any]]) -> None:
    """What the recorder does with the calls of a run."""
    from tasks.recording.writer import TableWriter

    output = open_output(str(folder / "output"))
    with TableWriter(output, "calls", "job", LATER) as table:
        table.add({**call, "run_id": LATER} for call in calls)


if __name__ == "__main__":
    hurry(setattr)
    api, place, log, end = sys.argv[1:]
    die_at(end)
    with by_batch(api, Path(place), log, FIRST) as dying:
        dying.ask(pages_again(IMAGES), attempts=3)
