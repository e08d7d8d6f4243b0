"""Fixtures that several test files share: a real S3 server, one Prefect server, a simulator, a home for each test.

Prefect reads its settings when it is imported, so those of the session are set here, before any test module is.
"""

import fcntl
import gc
import logging
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from flows.cli.server import CLIENT_ENVIRONMENT, Server, without_heartbeats
from flows.cli.server_process import start_server
from tasks.simulator import Simulator
from tests.runs import forget_s3_connections
from tests.s3 import S3Server, serve_s3

# Below the ports that the system hands out, so that nobody takes it before the server starts; another for each worker.
WORKERS_OF = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PREFECT_PORT = random.Random(WORKERS_OF).randrange(14_000, 19_000, 50) + WORKER
LONG_WAITS = {"deployments", "faults"}  # rooms of tests that wait longest: for schedules, leases, deadlines
SERVERS = {"prefect_server", "prefect_home", "s3_server"}
PREFECT_HOME = Path(tempfile.mkdtemp(prefix="visionflow-tests-"))

os.environ.update(
    CLIENT_ENVIRONMENT,
    PREFECT_HOME=str(PREFECT_HOME),
    PREFECT_API_URL=f"http://127.0.0.1:{PREFECT_PORT}/api",
    VISIONFLOW_HOME=str(PREFECT_HOME / "visionflow"),
)
logging.raiseExceptions = False  # as in a command: what Prefect still logs of an earlier test has no screen any more
# How long an example takes tells of the machine, not of the property: one that others keep busy may stop for a second.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "VISIONFLOW_KEEP_SERVER"):
    os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look through it again at each of its rounds."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for a server of Prefect's or S3's, which `make check` leaves out, come first.

    They wait more than they compute: those that only compute fill what is left of the cores.
    """
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
    items.sort(key=lambda item: (item.path.parent.name not in LONG_WAITS, item.get_closest_marker("server") is None))


@pytest.fixture(scope="session", autouse=True)
def _tidy() -> Iterator[None]:
    yield
    shutil.rmtree(PREFECT_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """The command line takes the log for its screen, which is closed after the test."""
    log = logging.getLogger("visionflow")
    handlers, propagates = log.handlers, log.propagate
    yield
    log.handlers, log.propagate = handlers, propagates


@pytest.fixture(scope="session")
def prefect_server(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of the session's Prefect server.

    A new database is migrated, which takes half a minute: by one worker, once for a version of Prefect's.
    """
    assert pytestconfig.cache is not None
    migrated = pytestconfig.cache.mkdir("prefect") / f"{version('prefect')}.db"
    with migrated.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if migrated.exists():
            copy_database(migrated, PREFECT_HOME / "prefect.db")
        process = start_server(PREFECT_PORT, PREFECT_HOME / "server.log")
        url = Server(os.environ["PREFECT_API_URL"], process=process).ready(lambda _: None)
        if not migrated.exists():
            copy_database(PREFECT_HOME / "prefect.db", migrated.with_suffix(".new"))
            migrated.with_suffix(".new").replace(migrated)
    try:
        with without_heartbeats():  # as the command line and a script have it
            yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def prefect_home(prefect_server: str, tmp_path: Path) -> Path:
    """A migrated home for a test that starts a Prefect server of its own."""
    home = tmp_path / "prefect"
    home.mkdir()
    copy_database(PREFECT_HOME / "prefect.db", home / "prefect.db")
    return home


def copy_database(source: Path, target: Path) -> None:
    """A copy of a database that may be in use."""
    with closing(sqlite3.connect(source)) as ours, closing(sqlite3.connect(target)) as copy:
        ours.backup(copy)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own VISIONFLOW_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("VISIONFLOW_HOME", str(folder))
    return folder


@pytest.fixture
def simulator(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator of the API over a socket, which ANTHROPIC_BASE_URL names."""
    with Simulator(ocr=False) as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
        yield running


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with an empty bucket; the AWS_* variables name it until the session ends."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.env.items():
            environment.setenv(name, value)
        environment.delenv("AWS_PROFILE", raising=False)
        environment.delenv("AWS_SESSION_TOKEN", raising=False)
        forget_s3_connections()
        yield server
