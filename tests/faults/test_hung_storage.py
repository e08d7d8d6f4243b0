"""Storage that hangs: it takes connections, files or locks and says nothing more. Whoever waits for it has a bound."""

import asyncio
import fcntl
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.cli import server
from tasks.asking import engine as engine_room
from tasks.asking import journal as journal_room
from tasks.asking.journal import LocalJournal, journal_path
from tasks.errors import ImageError, OutputError, SourceError, StopRun
from tasks.listing import list_images
from tasks.orchestration.store import PrefectStore
from tasks.planning import estimating
from tasks.planning.estimating import measure_all
from tasks.preparing import threads as threads_module
from tasks.preparing.threads import PreparedFile, PrepareThreads, waited_for
from tasks.simulator import Simulator
from tasks.storage import files, locks, s3
from tasks.storage.output import open_output
from tasks.storage.reading import SourceUnavailable, read_whole
from tasks.storage.records import records_of
from tasks.types import ImageRules, Source
from tests.asking import JsonStore, asking, pages, statuses
from tests.runs import forget_s3_connections, logged, picture
from tests.s3 import S3Server

BOUND_S = 1.0
MOST_S = 40.0  # all of it, on a machine that is busy; without a bound it would last for minutes
RULES = ImageRules(1024, 85, 1568, 1568)


def bounded(does: Callable[[], Any]) -> float:
    """How long it took, which was not longer than it may take."""
    began = time.monotonic()
    does()
    took = time.monotonic() - began
    assert took < MOST_S
    return took


@pytest.fixture
def silent_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix on a server that accepts connections, and nothing else."""
    monkeypatch.setattr(s3, "REQUEST_S", BOUND_S)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        for name, value in S3Server(f"http://127.0.0.1:{listening.getsockname()[1]}", "silent").env.items():
            monkeypatch.setenv(name, value)
        forget_s3_connections()
        yield "s3://silent/output"
    forget_s3_connections()


def test_s3_that_says_nothing(silent_s3: str) -> None:
    output = open_output(silent_s3)

    def write() -> None:
        with pytest.raises(OutputError, match=r"S3 failed on s3://silent/output/a.txt \(.*no answer within 1 s"):
            output.write_text("a.txt", "words")

    def list_output() -> None:
        with pytest.raises(OutputError, match="no answer within 1 s"):
            output.list("calls")

    def list_source() -> None:
        with pytest.raises(SourceError, match="no answer within 1 s"):
            list_images("s3://silent/images")

    def read() -> None:
        with pytest.raises(SourceUnavailable, match="no answer within 1 s"):
            read_whole(Source("s3://silent/a.jpg", "a.jpg", 10), most_bytes=100)

    for does in (write, list_output, list_source, read):
        assert bounded(does) >= BOUND_S


def test_an_object_that_grew_after_it_was_listed_is_not_read_whole(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_s3_connections()
    s3_server.client().put_object(Bucket=s3_server.bucket, Key="grown.jpg", Body=bytes(5_000_000))
    s3_server.client().put_object(Bucket=s3_server.bucket, Key="empty.jpg", Body=b"")
    session, received = s3.s3_filesystem().s3._endpoint.http_session, []
    send = session.send

    async def noted(request: object) -> Any:
        answer = await send(request)
        received.append(len(await answer.content))
        return answer

    monkeypatch.setattr(session, "send", noted)
    with pytest.raises(ImageError, match=r"grown\.jpg has grown to more than the limit of 1,000 bytes") as refused:
        read_whole(Source(f"s3://{s3_server.bucket}/grown.jpg", "grown.jpg", 10), most_bytes=1000)
    assert refused.value.code == "too_large"
    assert received == [1001]
    empty, data = read_whole(Source(f"s3://{s3_server.bucket}/empty.jpg", "empty.jpg", 10), most_bytes=1000)
    assert (empty.size, data) == (0, b"")


HOLDS = """
import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
with open(sys.argv[1], "r+b") as file:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hanging_file(tmp_path: Path) -> Iterator[Path]:
    """A picture that nobody can open, as on a file system whose server is gone: its lease is held."""
    path = tmp_path / "hangs.jpg"
    path.write_bytes(picture(1))
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("leases on files are Linux's")
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdin=-1, stdout=-1)
    assert holder.stdout is not None
    if holder.stdout.readline() != b"held\n":
        pytest.skip("this file system has no leases")
    yield path
    holder.kill()
    holder.communicate()


def test_a_file_that_cannot_be_opened(
    hanging_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for room in (threads_module, estimating):
        monkeypatch.setattr(room, "HUNG_S", BOUND_S)
    monkeypatch.setattr(threads_module, "LEAVING_S", BOUND_S)
    source = Source(str(hanging_file), hanging_file.name, hanging_file.stat().st_size)

    def leave() -> None:
        with PrepareThreads(on_s3=False) as threads:
            ((_, reading),) = threads.prepare([source], RULES)
            assert waited_for(reading, lambda: True) is None, "the run has ended"
            with pytest.raises(StopRun, match="Storage hangs: an image could not be read within 600 s"):
                waited_for(reading, lambda: False)

    def measure() -> None:
        with pytest.raises(StopRun, match="Storage hangs: an image could not be read within 600 s"):
            measure_all([source])

    with caplog.at_level(logging.WARNING, "visionflow"):
        bounded(leave)
        bounded(measure)
    assert set(logged(caplog)) == {"Storage hangs: 1 file still being read when the run ended."}


def test_after_the_end_nothing_waits_for_a_thread() -> None:
    with PrepareThreads(on_s3=False) as threads:
        pass
    with pytest.raises(RuntimeError, match="the run has ended"):
        threads.submit(print)


def test_what_a_reading_raises_is_its_own_even_a_time_limit() -> None:
    failed: Future[PreparedFile] = Future()
    failed.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        waited_for(failed, lambda: False)


def test_an_answer_store_that_takes_nothing(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine is left while calls wait for their answers to be kept."""
    monkeypatch.setattr(engine_room, "LEAVING_S", BOUND_S)

    class Hanging(JsonStore):
        async def put(self, key: str, record: dict[str, Any]) -> None:
            while True:  # whoever cancels it
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(10 * BOUND_S)

    def leave() -> None:
        with asking(simulator.url, tmp_path, Hanging(tmp_path / "kept"), timeout=5 * BOUND_S) as asked:
            asked.engine.submit(pages(1), attempts=1)
            while not simulator.ledger(entries=False).billed:
                time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "visionflow"):
        bounded(leave)
        gc.collect()  # what asyncio says of calls that were left, which would land in the output of a later test
    assert "Storage hangs: calls whose answers it did not take are listed as perhaps paid." in logged(caplog)


def test_a_disk_that_does_not_sync(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer goes into the output's journal, and no further call leaves."""
    monkeypatch.setattr(journal_room, "DURABLE_S", BOUND_S)
    hang = threading.Event()

    class Hanging(files.Disk):
        def sync(self, handle: int) -> None:
            if threading.current_thread().name == "visionflow-commits":
                hang.wait(120)
            super().sync(handle)

    simulator.change(latency=BOUND_S / 2)
    with asking(simulator.url, tmp_path, concurrency=1) as asked:
        monkeypatch.setattr(files, "disk", Hanging())
        outcomes = asked.ask(pages(8), attempts=1)
        error = asked.halt.error
        hang.set()
    assert isinstance(error, OutputError) and "the disk hangs" in str(error)
    assert simulator.ledger().billed == statuses(outcomes)["ok"] < len(outcomes)


def test_a_disk_that_takes_no_record(
    simulator: Simulator, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls go on meanwhile, for their answers are in the journal; whoever leaves in a hurry leaves it for later."""
    hang = threading.Event()

    class Hanging(files.Disk):
        def open(self, path: Path, flags: int, mode: int) -> int:
            if threading.current_thread().name == "visionflow-records":
                hang.wait(120)
            return super().open(path, flags, mode)

    def leave() -> None:
        with asking(simulator.url, tmp_path, PrefectStore(records_of(str(tmp_path / "out"))), concurrency=1) as asked:
            asked.engine.submit(pages(5), attempts=1)
            while len(asked.calls) < 5:
                time.sleep(0.01)
            assert not list((home / "results").rglob("*"))
            asked.engine.hurry()
        assert asked.engine.ledger.journal.needed

    monkeypatch.setattr(files, "disk", Hanging())
    try:
        bounded(leave)
    finally:
        hang.set()
    assert simulator.ledger().billed == 5


def test_a_lock_that_another_process_holds(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCK_S", BOUND_S)
    monkeypatch.setattr(server, "HELD_S", BOUND_S)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    path = journal_path(str(tmp_path / "out"), "job", "run")
    places = (path, home / "server.start")
    held = [os.open(_made(place), os.O_RDWR) for place in places]
    for handle in held:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def note() -> None:
        with pytest.raises(OutputError, match="another process has locked it for 1 s"):
            LocalJournal(str(tmp_path / "out"), "job", "run")

    def start() -> None:
        with pytest.raises(StopRun, match=r"cannot be started or shared .* another process has locked it for 1 s"):
            server.find_or_start()

    try:
        for does in (note, start):
            assert bounded(does) >= BOUND_S
    finally:
        for handle in held:
            os.close(handle)
    assert not server.held


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
