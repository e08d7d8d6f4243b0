"""The run that waits for its shards: it starts them, grants them their share of the limits, and adds up what they did.

A shard is alive as long as its lease is: renewed every 10 s, and dead 60 s after the last time. Where Prefect says that
its process has ended without a last report, it is started again at once, and takes the lease when that is dead. Prefect
is a hint and no more: while its server is away, shards go on and the parent waits. A shard that was started again
adopts what the one before has left; one that has died too often is given up: its images are rows that say so.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from httpx import HTTPError
from prefect.exceptions import PrefectException

from tasks.asking.halting import Halt
from tasks.errors import BusyError, OutputError, StopRun
from tasks.orchestration.chunks import Remaining
from tasks.orchestration.context import RunContext
from tasks.orchestration.fleet import work_pool
from tasks.orchestration.fleet.granting import granted
from tasks.orchestration.fleet.manifest import Manifest, freeze
from tasks.orchestration.fleet.reports import Report, Share
from tasks.orchestration.fleet.shards import LEASE_S, Shard, in_place_of, watch_of
from tasks.orchestration.invoker import Todo
from tasks.orchestration.opening import announce
from tasks.planning.plan import Part
from tasks.recording.recovery import recover
from tasks.recording.rows import Row
from tasks.recording.writer import run_folder

SHARDS_POLL_S, SOON_S = 1.0, 0.25  # sooner while slots move from shard to shard
PREFECT_S = 10.0  # between two looks at what Prefect says
PROCESSES = 4  # of one shard, one after another
WAITING_S = 60.0  # for a worker, between two words about it
AWAY = (HTTPError, PrefectException, OSError)
UNASKED = 1000  # rows at a time
GIVEN_UP = "given up"


def by_shards(run: RunContext, todo: Todo) -> Iterator[list[Row]]:
    """Ask about all that is to do in the flow runs of a work pool; rows of shards that were given up come out.

    Raises OutputError, or StopRun if Prefect takes no shards.
    """
    if not todo.images:
        return
    plan = run.plan
    assert plan.part is not None
    manifest = Manifest(plan.output, plan.names[0], plan.run_id) if plan.part.attempt else freeze(run, todo)
    parent = _Parent(run, manifest)
    while not parent.over:
        parent.look()
        yield from parent.given_up()
        parent.pause()
    parent.clear()


class _Parent:
    def __init__(self, run: RunContext, manifest: Manifest) -> None:
        self._run, self._manifest = run, manifest
        self._shards = [self._found(number) for number in range(1, manifest.shards + 1)]
        self._deployed = False
        self._asked_prefect = self._said = monotonic()
        self._waiting = threading.Event()

    @property
    def over(self) -> bool:
        return all(shard.over for shard in self._shards)

    def pause(self) -> None:
        if not self.over:
            moving = any(shard.moves for shard in self._shards)
            self._waiting.wait(min(SOON_S, SHARDS_POLL_S) if moving else SHARDS_POLL_S)

    def look(self) -> None:
        """Once at everything."""
        for shard in self._shards:
            if not shard.over:
                self._look_at(shard)
        self._halt_all()
        self._grant()
        if self._run.halt is None:
            self._start()
        self._ask_prefect()
        self._show()

    def given_up(self) -> Iterator[list[Row]]:
        """The rows of shards that nobody goes on with."""
        for shard in self._shards:
            if shard.given_up is not None and not shard.over:
                with suppress(BusyError), in_place_of(self._run, shard.number):
                    self._read_report(shard)
                    if shard.given_up is None:  # a process of it was at work all the same, and has handed in
                        continue
                    self._take_in(shard)
                    for rows in self._rows_of(shard):
                        yield shard.counted(rows)
                    self._manifest.note(shard.part, Report(shard.attempt, ended=GIVEN_UP, message=shard.given_up))
                    self._run.recorder.shards.pop(shard.number, None)
                    shard.over, shard.report = True, None

    def clear(self) -> None:
        """Rows of processes that have died, or were given up, are others' now; say which shards failed."""
        plan, output = self._run.plan, self._run.plan.output
        folder = run_folder("results", plan.name, plan.run_id)
        last = {shard.part.tag for shard in self._shards if shard.given_up is None}
        first = {f"{folder}/part-{Part(0, 0).tag}-{number:05}.parquet" for number in range(self._manifest.parts)}
        for name in output.parts(folder):
            tag = name.rpartition("/part-")[2].rpartition("-")[0]
            if tag not in last and name not in first and plan.part and tag != plan.part.tag:
                output.write_table(name, output.read_schema(name).empty_table())
        self._run.recorder.shard_lines = [shard.line for shard in self._shards]

    def _found(self, number: int) -> Shard:
        """A shard as an earlier parent has left it, or a new one."""
        shard = Shard(number, len(self._manifest.images(number)), watch_of(self._run, number))
        told = self._manifest.share(number)
        if told is not None:
            shard.told, shard.attempt, shard.grant = told, told.attempt, told.grant
        return shard

    def _look_at(self, shard: Shard) -> None:
        self._read_report(shard)
        if not (shard.report and shard.report.ended) and monotonic() - shard.looked >= LEASE_S:
            shard.looked = monotonic()
            with suppress(OSError, TimeoutError):
                self._look_at_lease(shard)

    def _read_report(self, shard: Shard) -> None:
        with suppress(OutputError):
            report = self._manifest.report(shard.part)
            if report is not None:
                shard.report = report
                self._run.recorder.shards[shard.number] = report
        if shard.report is not None and shard.report.ended:
            self._has_ended(shard, shard.report)

    def _look_at_lease(self, shard: Shard) -> None:
        if shard.watch.look() is not None:
            shard.alive, shard.missed = True, 0
        elif shard.watch.free_dead():  # the next process would have to watch it for as long
            if shard.alive:
                self._died(shard, "it gave no sign of life for a minute.")
        elif shard.alive:  # it has let go of it, and its last report may be on its way
            shard.missed += 1
            if shard.missed > 1:
                self._died(shard, "it ended without a word.")

    def _has_ended(self, shard: Shard, report: Report) -> None:
        if report.ended == GIVEN_UP:  # by a parent that has not come to the end
            shard.given_up = report.message or "it was given up."
            return
        if report.ended == "interrupted" and self._run.halt is None:
            self._died(shard, "its worker was told to end.")
            return
        shard.over, shard.given_up = True, None
        if report.ended in ("stopped", "paused") and self._run.halt is None:
            if report.ended == "stopped":
                message = f"Shard {shard.number} on {report.host}: {report.message}"
                self._run.stop(Halt.stopped(StopRun(message)))
            else:
                self._run.stop(Halt("paused", self._paused()))

    def _died(self, shard: Shard, why: str) -> None:
        """Start it again, or give it up."""
        announce(f"Shard {shard.number} of {len(self._shards)} has died: {why}")
        if shard.attempt + 1 >= PROCESSES or self._run.halt is not None:
            shard.given_up = f"it died {shard.attempt + 1} times, at last because {why}"
            return
        if shard.flow_run is not None:
            with suppress(*AWAY):
                work_pool.crashed(shard.flow_run, f"Taken over: {why}")
        shard.begin_again()

    def _start(self) -> None:
        """Start shards that have no flow run yet; a server that is away is asked again later."""
        for shard in self._shards:
            if shard.over or shard.flow_run is not None or shard.given_up is not None:
                continue
            plan = self._run.plan
            assert plan.job.pool is not None
            try:
                self._tell(shard)
                if not self._deployed:
                    job = plan.job.model_dump(mode="json", by_alias=True, exclude_none=True)
                    work_pool.deploy(plan.job.pool, plan.listing.source, plan.output.uri, job)
                    self._deployed = True
                shard.flow_run = work_pool.start(plan.job.pool, self._manifest, shard.part)
            except AWAY as error:
                self._say(f"Prefect's server does not take shards ({type(error).__name__}): waiting for it.")
                return

    def _ask_prefect(self) -> None:
        """Which processes have ended, as far as Prefect knows."""
        if monotonic() - self._asked_prefect < PREFECT_S:
            return
        self._asked_prefect = monotonic()
        asked = {one.flow_run: one for one in self._shards if one.flow_run is not None and not one.over}
        with suppress(*AWAY):
            ended = work_pool.ended(flow_run for flow_run in asked if flow_run)
            for flow_run, (failed, said) in ended.items():
                self._prefect_says(asked[flow_run], said, failed=failed)
        if any(shard.waits for shard in self._shards):
            self._say(f"Waiting for workers of the pool {self._run.plan.job.pool} to take all shards.")

    def _prefect_says(self, shard: Shard, said: str, *, failed: bool) -> None:
        """Its process has ended; one that twice could not even begin cannot on any worker."""
        shard.missed += 1
        if shard.missed < 2 or shard.given_up is not None:
            return
        if failed and shard.waits and shard.attempt:
            message = f"Shard {shard.number} cannot begin: {said}"
            self._run.stop(Halt.stopped(StopRun(message)))
        self._died(shard, f"Prefect says: {said.rstrip('.')}.")

    def _halt_all(self) -> None:
        """Once the run is to end: those at work hear of it, and those that nobody has taken are not begun."""
        halt = self._run.halt
        if halt is None:
            return
        for shard in self._shards:
            if shard.waits and shard.given_up is None:
                shard.given_up = halt.message
                if shard.flow_run is not None:
                    with suppress(*AWAY):
                        work_pool.cancel(shard.flow_run)

    def _grant(self) -> None:
        ending = self._run.halt is not None
        stakes = {shard.number: shard.stake(ending=ending) for shard in self._shards}
        grants = granted(self._manifest.whole, stakes)
        for shard in self._shards:
            shard.grant = grants[shard.number]
            if not shard.over:
                with suppress(OutputError):
                    self._tell(shard)

    def _tell(self, shard: Shard) -> None:
        share = Share(shard.attempt, shard.grant, self._run.halt and replace(self._run.halt, error=None))
        if share != shard.told:
            self._manifest.tell(shard.number, share)
            shard.told = share

    def _rows_of(self, shard: Shard) -> Iterator[list[Row]]:
        run = self._run
        remaining = Remaining(self._manifest.images(shard.number), run.plan.run_id)
        for rows in run.store.finished(run.plan.chunk_prefix):
            yield remaining.take(rows)
        left = remaining.left
        for start in range(0, len(left), UNASKED):
            rows = [run.unasked_row(source) for source in left[start : start + UNASKED]]
            yield rows if run.halt else [{**row, "error_code": "shard", "error": shard.given_up} for row in rows]

    def _take_in(self, shard: Shard) -> None:
        """The calls of its last process, which nobody takes over."""
        run = self._run
        holder = f"{run.plan.run_id}.{shard.number:03}"
        run.recorder.record_calls(
            recover(run.plan.output, run.plan.name, run.recorder.journal, run.store, shard=holder)
        )

    def _show(self) -> None:
        """For whoever watches the run."""
        run, reports = self._run, [shard.report for shard in self._shards if shard.report]
        run.engine.elsewhere = sum(report.in_flight for report in reports)
        run.engine.progress.done = sum(report.asked for report in reports)
        run.prepare_counts.done = sum(report.prepared for report in reports)
        run.recorder.ledger.total_usd = sum((report.spent for report in reports), start=run.recorder.bill.cost_usd)

    def _paused(self) -> str:
        used = sum(shard.report.holding.used for shard in self._shards if shard.report)
        return (
            f"The next call could pass the cap of ${self._manifest.whole.max_cost} (${used} used). "
            f"{self._run.engine.settings.cap_remedy}, then run the same command again."
        )

    def _say(self, text: str) -> None:
        if monotonic() - self._said >= WAITING_S:
            self._said = monotonic()
            announce(text)
