"""Where answers are kept fails, or is slow: the run ends in good order, and nothing is taken for missing."""

from pathlib import Path
from typing import Any

import pytest

from tasks.asking import keeping
from tasks.errors import OutputError
from tasks.simulator import Simulator
from tests.asking import JsonStore, asking, pages, statuses


class FullDisk(JsonStore):
    """Refuses to write."""

    async def put(self, key: str, record: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")


class Hiccups(JsonStore):
    """Fails on the first use of every record."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seen: set[str] = set()

    async def get(self, key: str) -> dict[str, Any] | None:
        if key not in self.seen:
            self.seen.add(key)
            raise ConnectionError("SlowDown")
        return await super().get(key)


class Unreadable(JsonStore):
    """Answers are there, but access was taken away."""

    async def get(self, key: str) -> dict[str, Any] | None:
        raise PermissionError(13, "AccessDenied")


@pytest.fixture
def _quick_storage_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "STORAGE_RETRIES_S", (0.01, 0.01))


@pytest.mark.usefixtures("_quick_storage_retries")
def test_a_full_disk_stops_the_run_with_the_answers_received_so_far(simulator: Simulator, tmp_path: Path) -> None:
    with asking(simulator.url, tmp_path, FullDisk(tmp_path / "kept"), concurrency=2) as asked:
        outcomes = asked.ask(pages(10), attempts=3)
    assert isinstance(asked.halt.error, OutputError)
    assert "No space left on device" in asked.halt.message
    found = statuses(outcomes)
    assert found["ok"] == simulator.ledger().billed > 0, "what was paid for is in the rows"
    assert found["ok"] + found["unasked"] == 10


@pytest.mark.usefixtures("_quick_storage_retries")
def test_a_storage_in_trouble_is_not_a_missing_answer(simulator: Simulator, tmp_path: Path) -> None:
    with asking(simulator.url, tmp_path, run_id="first") as first:
        first.ask(pages(5), attempts=3)
    with asking(simulator.url, tmp_path, Hiccups(tmp_path / "kept"), run_id="hiccups") as hiccups:
        assert statuses(hiccups.ask(pages(5), attempts=3)) == {"ok": 5}
    with asking(simulator.url, tmp_path, Unreadable(tmp_path / "kept"), run_id="unreadable") as unreadable:
        assert statuses(unreadable.ask(pages(5), attempts=3)) == {"unasked": 5}
    assert isinstance(unreadable.halt.error, OutputError)
    assert simulator.ledger().requests == 5, "nothing was paid for again"


def test_a_torn_record_is_a_missing_answer(simulator: Simulator, tmp_path: Path) -> None:
    with asking(simulator.url, tmp_path) as asked:
        asked.ask(pages(1), attempts=3)
    (kept,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    kept.write_text('{"text": "half of it"}')
    with asking(simulator.url, tmp_path, run_id="later") as later:
        (outcome,) = later.ask(pages(1), attempts=3)
    assert outcome.status == "ok" and len(later.calls) == 1
