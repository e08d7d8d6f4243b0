"""A fleet: one run over several processes. Here its shards are threads; workers are in tests/faults/."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import CancelledRun

from config.job import Job
from flows import read_calls
from flows.analyze_images import analyze_images
from flows.cli.terminal import failed_shards
from flows.fleet import shard
from tasks.asking.journal import LocalJournal
from tasks.errors import BusyError, StopRun
from tasks.orchestration.fleet import parent, work_pool
from tasks.orchestration.fleet import shard as shard_module
from tasks.orchestration.fleet.manifest import BYTES_A_CALL, Manifest, cut
from tasks.planning.plan import Part
from tasks.simulator import Simulator
from tasks.storage.s3 import s3_filesystem
from tasks.types import Source
from tests.runs import draw, forget_s3_connections, rows, run_table, until
from tests.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("prefect_server")


class Threads:
    """Workers that take every shard at once, in this process."""

    def __init__(self) -> None:
        self.started: list[Part] = []
        self._keys: set[tuple[str, Part]] = set()
        self.ended: dict[UUID, tuple[bool, str]] = {}
        self.refusals: list[str] = []
        self.run_id = ""
        self.take: Callable[[Part], bool] = lambda _: True

    def start(self, _pool: str, manifest: Manifest, part: Part) -> UUID:
        flow_run, self.run_id = uuid4(), manifest.run_id
        if (manifest.run_id, part) not in self._keys:  # Prefect's idempotency key
            self._keys.add((manifest.run_id, part))
            self.started.append(part)
            if self.take(part):
                arguments = (manifest.output.uri, manifest.job_name, manifest.run_id, part.number, part.attempt)
                threading.Thread(target=self._run, args=(flow_run, arguments), daemon=True).start()
            else:
                self.ended[flow_run] = (False, "Crashed")
        return flow_run

    def _run(self, flow_run: UUID, arguments: Any) -> None:
        try:
            shard(*arguments)
        except (StopRun, CancelledRun) as error:  # as Prefect would know
            self.ended[flow_run] = (True, str(error))
            self.refusals.append(str(error))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    workers = Threads()
    monkeypatch.setattr(work_pool, "check_pool", lambda _: None)
    monkeypatch.setattr(work_pool, "deploy", lambda *_: None)
    monkeypatch.setattr(work_pool, "start", workers.start)
    monkeypatch.setattr(
        work_pool, "ended", lambda asked: {one: workers.ended[one] for one in asked if one in workers.ended}
    )
    monkeypatch.setattr(parent, "SHARDS_POLL_S", 0.1)
    monkeypatch.setattr(parent, "PREFECT_S", 0.1)
    monkeypatch.setattr(shard_module, "EVERY_S", 0.1)
    return workers


def run(images: Path, output: Path | str, **job: Any) -> dict[str, Any]:
    job = {"pool": "threads", "shards": 2, "prompt": "One word.", "no_thumbnails": True, "max_failed": 1.0, **job}
    summary: dict[str, Any] = analyze_images(str(images), str(output), Job(**job))
    return summary


def test_a_fleet_is_one_run(threads: Threads, simulator: Simulator, tmp_path: Path) -> None:
    """One run id, one row, one bill; a picture that lies in both shards is paid for once."""
    images = draw(tmp_path / "images", 40)
    (images / "p039.jpg").write_bytes((images / "p000.jpg").read_bytes())
    simulator.change(latency=0.05)
    summary = run(images, tmp_path / "out", concurrency=8)
    ledger = simulator.ledger()
    assert (summary["status"], summary["images"], summary["ok"], summary["duplicates"]) == ("completed", 40, 40, 1)
    assert (ledger.billed, summary["calls"]) == (39, 39)
    assert ledger.peak_in_flight <= 8
    results, calls = rows(summary), rows(summary, "calls")
    assert sorted(results["name"]) == sorted(path.name for path in images.iterdir())
    assert calls["call"].is_unique
    assert float(calls["cost_usd"].sum()) == summary["cost_usd"] == float(results["cost_usd"].sum())
    assert [(one["shard"], one["state"]) for one in summary["shards"]] == [(1, "completed"), (2, "completed")]
    assert sum(one["ok"] for one in summary["shards"]) == 40
    parts = {path.name.split("-")[1] for path in Path(summary["results"]).iterdir()}
    assert parts == {"000", "001", "002"}
    assert len(run_table(tmp_path / "out")) == 1
    assert threads.started == [Part(1, 0), Part(2, 0)]


def test_while_places_move_shards_look_more_often(
    threads: Threads, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "EVERY_S", 400.0)
    summary = run(draw(tmp_path / "images", 12), tmp_path / "out", concurrency=4)
    assert summary["ok"] == 12
    assert summary["seconds"] < 200, "else nobody would have heard of a share before 400 s"


def test_a_fleet_needs_no_folder_that_its_workers_share(
    threads: Threads, simulator: Simulator, s3_server: S3Server, tmp_path: Path
) -> None:
    """All that it leaves is on S3; the shards' journals have served, and the next run finds every answer."""
    forget_s3_connections()
    output = f"s3://{s3_server.bucket}/{tmp_path.name}"
    images = draw(tmp_path / "images", 24)
    simulator.change(latency=0.05)
    summary = run(images, output, concurrency=8)
    assert (summary["status"], summary["ok"], summary["calls"]) == ("completed", 24, 24)
    calls = read_calls(output)
    assert float(calls["cost_usd"].sum()) == summary["cost_usd"] and calls["call"].is_unique
    assert simulator.ledger().peak_in_flight <= 8
    left = s3_filesystem().find(f"{output}/.visionflow/journal")
    assert not [name for name in left if name.endswith(".jsonl")]
    again = run(images, output, concurrency=8)
    assert (again["cached"], again["calls"]) == (24, 0)
    forget_s3_connections()


@pytest.mark.all
def test_what_a_fleet_has_kept_is_found_by_every_run(threads: Threads, simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 40)
    run(images, tmp_path / "out", concurrency=8)
    again = run(images, tmp_path / "out", concurrency=8)
    assert (again["cached"], again["calls"]) == (40, 0)
    assert len(threads.started) == 2, "nothing was left for a shard"
    alone = run(images, tmp_path / "out", pool=None, shards=None)
    assert (alone["cached"], alone["calls"]) == (40, 0), "a run without a pool finds what a fleet has kept"


@pytest.mark.all
def test_a_cap_is_of_the_whole_run(threads: Threads, simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 60)
    one = rows(run(draw(tmp_path / "one", 1, 900), tmp_path / "first", pool=None, shards=None), "calls")["cost_usd"][0]
    summary = run(images, tmp_path / "out", max_cost=one * 60, max_tokens=100, concurrency=6)
    assert summary["status"] == "paused" and summary["message"].startswith("The next call could pass the cap of $")
    assert 0 < summary["ok"] < 60 and summary["images"] == 60
    assert summary["cost_usd"] <= float(one * 60)
    assert run(images, tmp_path / "out")["ok"] == 60
    assert simulator.ledger().billed == 61, "nothing was paid for twice"


@pytest.mark.all
def test_a_shard_that_no_process_survives_is_rows_that_say_so(
    threads: Threads, simulator: Simulator, tmp_path: Path
) -> None:
    threads.take = lambda part: part.number == 1
    images = draw(tmp_path / "images", 10)
    summary = run(images, tmp_path / "out")
    assert (summary["status"], summary["statuses"]) == ("completed_with_failures", {"ok": 5, "unasked": 5})
    assert [part for part in threads.started if part.number == 2] == [Part(2, attempt) for attempt in range(4)]
    told = [(one["state"], one["images"], one["ok"], one["failed"], one["processes"]) for one in summary["shards"]]
    assert told == [("completed", 5, 5, 0, 1), ("failed", 5, 0, 5, 4)]
    assert failed_shards(summary).startswith("2 of 2 failed, with 5 images: it died 4 times")
    assert failed_shards(summary).endswith("The same command goes on with them.")
    assert "it died 4 times" in rows(summary).query("status == 'unasked'")["error"].iloc[0]
    threads.take = lambda _: True
    assert run(images, tmp_path / "out")["ok"] == 10
    assert simulator.ledger().billed == 10


@pytest.mark.parametrize("handed_in", [False, True])
def test_a_shard_that_is_given_up_too_soon_keeps_its_rows(
    threads: Threads, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_in: bool
) -> None:
    """As at a halt that comes while a worker has just taken it: the process is at work, or has ended meanwhile."""
    look = parent._Parent.look

    def too_soon(waiting: parent._Parent) -> None:
        look(waiting)
        shard = waiting._shards[1]
        at_work = shard.report is not None and shard.report.grant.concurrency > 0
        if at_work and not shard.over:
            until(lambda: (report := waiting._manifest.report(shard.part)) and (report.ended or not handed_in))
            shard.given_up = "Nobody has seen it."

    monkeypatch.setattr(parent._Parent, "look", too_soon)
    simulator.change(latency=0.2)
    summary = run(draw(tmp_path / "images", 10), tmp_path / "out")
    assert [(one["state"], one["ok"]) for one in summary["shards"]] == [("completed", 5), ("completed", 5)]
    assert (summary["rows"], summary["ok"], len(rows(summary)), len(rows(summary, "calls"))) == (10, 10, 10, 10)
    assert float(rows(summary, "calls")["cost_usd"].sum()) == summary["cost_usd"]
    assert simulator.ledger().billed == 10


def test_a_process_of_a_shard_that_is_run_again_is_refused(
    threads: Threads, simulator: Simulator, tmp_path: Path
) -> None:
    """Its calls would take the places of those that it made before; the next process takes those in."""
    images, out = draw(tmp_path / "images", 8), str(tmp_path / "out")
    call = {"call": 1_000_000_000_001, "image": "p.jpg", "started_at": "2026-11-29T12:00:00+00:00", "attempt": 1}
    about = {"page": 1, "step": 0, "model": "m", "endpoint": "simulator", "preset": "ocr", "tier": "standard"}

    def was_killed(part: Part) -> bool:
        if part == Part(1, 0):
            journal = LocalJournal(out, "images", f"{threads.run_id}.{part.tag}")
            journal.sent({**call, **about})
            journal.close()
        return True

    threads.take = was_killed
    summary = run(images, out)
    assert (summary["status"], summary["ok"]) == ("completed", 8)
    assert threads.refusals == [
        f"{threads.run_id}.001-0 was at work before: its shard is gone on with by another process."
    ]
    assert threads.started == [Part(1, 0), Part(2, 0), Part(1, 1)]
    assert sorted(rows(summary, "calls")["paid"]) == ["maybe"] + ["yes"] * 8
    assert simulator.ledger().billed == 8
    with pytest.raises(BusyError, match="was started again since: another process has it"):
        shard(out, "images", threads.run_id, 1, 0)


@pytest.mark.all
def test_a_parent_that_is_started_again_finds_its_shards(
    threads: Threads, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw(tmp_path / "images", 20)
    with monkeypatch.context() as dying:
        dying.setattr(parent._Parent, "clear", _killed)
        with pytest.raises(BaseException, match="killed"):
            run(images, tmp_path / "out")
    (run_folder,) = (tmp_path / "out/results/job=images").iterdir()
    with pytest.raises(BusyError, match="begun by another command"):
        run(images, tmp_path / "out", prompt="Two words.")
    summary = run(images, tmp_path / "out")
    assert f"run={summary['run_id']}" == run_folder.name
    assert (summary["ok"], summary["images"], summary["calls"]) == (20, 20, 20)
    assert threads.started == [Part(1, 0), Part(2, 0)]
    assert simulator.ledger().billed == 20
    assert len(run_table(tmp_path / "out")) == 1


def _killed(_: Any) -> None:
    raise KeyboardInterrupt("killed")


def test_a_fleet_that_cannot_begin_says_what_is_missing(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw(tmp_path / "images", 1)
    with pytest.raises(StopRun, match=r"There is no work pool 'nowhere'\. Make it: prefect work-pool create"):
        run(images, tmp_path / "out", pool="nowhere")
    monkeypatch.setattr(work_pool, "check_pool", lambda _: None)
    with pytest.raises(StopRun, match="a job for a work pool must not give an endpoint's address"):
        run(images, tmp_path / "out", endpoint=simulator.url)
    assert simulator.ledger().requests == 0


def test_no_worker_copies_the_folder_in_which_the_command_was_started(tmp_path: Path) -> None:
    """Which Prefect does where a deployment has a path, or no step of its own: a shard, all images, sockets too."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="copies", type="process"))
        work_pool.deploy("copies", str(tmp_path), str(tmp_path / "out"), {"pool": "copies"})
        for name in ("analyze-images-shard/copies", "analyze-images/fleet"):
            deployment = client.read_deployment_by_name(name)
            (step,) = deployment.pull_steps or [{}]
            assert (deployment.path, list(step.values())) == (None, [{"directory": "."}]), name
            client.delete_deployment(deployment.id)
        client.delete_work_pool("copies")


def test_shards_are_alike_in_work() -> None:
    small = [Source(f"{number}", f"{number}", 1000) for number in range(900)]
    large = [Source(f"{number}", f"{number}", 3 * BYTES_A_CALL) for number in range(900, 1000)]
    first, second = cut([*small, *large], 2)
    assert len(first) > 600 and len(first) + len(second) == 1000
    assert [len(part) for part in cut(small[:3], 5)] == [1, 1, 1]
    assert cut([], 2) == []
