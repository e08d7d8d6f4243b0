"""Within a shard: opening it, keeping in touch with the parent, handing in what it has done."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from time import monotonic
from typing import Any

from prefect.states import Completed

from tasks.asking.halting import Halt
from tasks.asking.limits import Grant
from tasks.billing.pricing import usd
from tasks.errors import BusyError, OutputError
from tasks.orchestration.blocks import keys_from_blocks
from tasks.orchestration.context import RunContext
from tasks.orchestration.fleet.manifest import Manifest
from tasks.orchestration.fleet.reports import NOTHING_YET, Holding, Report, Share, same_pace
from tasks.orchestration.invoker import Stop, accepted
from tasks.orchestration.opening import open_plan
from tasks.orchestration.progress import beside
from tasks.planning.plan import Part
from tasks.recording.writer import run_folder
from tasks.storage.output import sound_parts

EVERY_S = 2.0
SOON_S, SETTLED_S = 0.5, 10.0  # more often, until its share has been the same for so long: others wait for places
ALONE_S = 600.0  # without dollars, and without a parent that could grant some


@contextmanager
def open_shard(manifest: Manifest, part: Part, stop: Stop) -> Iterator[RunContext]:
    """The run over a shard's images. StopRun if it may not or need not go on; OutputError."""
    job = accepted(manifest.facts["source"], manifest.output.uri, manifest.facts["job"])
    manifest.check_unfinished(part)  # before it takes anything in, and again once it has its turn
    with keys_from_blocks(job), open_plan(manifest.plan(part), stop) as run:
        manifest.check_unfinished(part)
        yield run


@contextmanager
def in_touch(run: RunContext, manifest: Manifest) -> Iterator["Touch"]:
    """Within, the shard has what it is granted, and says how far it is."""
    touch = Touch(run, manifest)
    touch.nothing_yet()
    with beside(touch.keep, "fleet"):
        yield touch


def hand_in(run: RunContext, manifest: Manifest, touch: "Touch") -> Any:
    """All is recorded: the last report, and the flow's last state. Raises what stopped the run; OutputError."""
    assert run.plan.part is not None
    halt = run.halt
    run.recorder.settle_journal(run.store)
    if halt is None or not isinstance(halt.error, BusyError):  # else another process has the shard now
        report = touch.report(ended=run.recorder.status(halt), message=halt.message if halt else None)
        manifest.note(run.plan.part, report)
    run.engine.recorded()
    if halt and halt.error:
        raise halt.error
    counts = ", ".join(f"{count:,} {status}" for status, count in run.recorder.statuses.items())
    return Completed(message=f"{counts}; {usd(run.recorder.ledger.total_usd)}")


class Touch:
    """Reads the shard's share and writes its report."""

    def __init__(self, run: RunContext, manifest: Manifest) -> None:
        assert run.plan.part is not None
        self._run, self._manifest, self._part = run, manifest, run.plan.part
        self._before = _spent_before(run) if self._part.attempt else Decimal(0)
        self._share: Share | None = None
        self._told_at = monotonic()
        self._short_since: float | None = None

    def nothing_yet(self) -> None:
        """Nothing is granted."""
        self._take(Share())

    def keep(self, ended: threading.Event) -> None:
        """Until the shard has ended; storage that is away is asked again."""
        while True:
            with suppress(OutputError):
                self._read()
            with suppress(OutputError):
                self._manifest.note(self._part, self.report())
            settled = monotonic() - self._told_at > SETTLED_S
            if ended.wait(EVERY_S if settled else min(SOON_S, EVERY_S)):
                return

    def report(self, ended: str | None = None, message: str | None = None) -> Report:
        """How far it is."""
        run, recorder = self._run, self._run.recorder
        limiter, budget = run.engine.limits.limiter, run.engine.limits.budget
        grant = self._share.grant if self._share else NOTHING_YET  # taken in a moment, or already
        told = grant.max_cost or Decimal(0)
        paid = recorder.ledger.total_usd + self._before
        used = paid if budget.cap is None else budget.used + budget.set_aside + self._before
        holding = Holding(
            concurrency=0 if ended else max(limiter.concurrency, limiter.held, grant.concurrency),
            per_second=0.0 if ended else grant.per_second or 0.0,
            max_cost=used if ended else max((budget.cap or Decimal(0)) + self._before, told, used),
            used=used,
            short=budget.short,
        )
        return Report(
            attempt=self._part.attempt,
            host=socket.gethostname(),
            figures=recorder.own,
            bill=recorder.bill.of_rows,
            prepared=run.prepare_counts.done,
            asked=run.engine.progress.done - run.engine.progress.statuses["unasked"] + run.prepare_counts.failed,
            in_flight=0 if ended else run.engine.in_flight,
            spent=paid,
            holding=holding,
            grant=grant,
            ended=ended,
            message=message,
        )

    def _read(self) -> None:
        share = self._manifest.share(self._part.number)
        if share is not None and share.attempt > self._part.attempt:
            error = BusyError("This shard gave no sign of life, and was started again. What was answered is kept.")
            self._run.stop(Halt.stopped(error))
        elif share is not None and share != self._share:
            self._take(share)
            if share.halt is not None:
                self._run.stop(share.halt)
        self._look_for_a_parent()

    def _take(self, share: Share) -> None:
        if self._run.engine.settings.max_cost is None:
            grant = Grant(share.grant.concurrency, share.grant.per_second, None)
        else:
            cap = share.grant.max_cost or Decimal(0)
            grant = Grant(share.grant.concurrency, share.grant.per_second, cap - self._before, share.grant.last)
        if self._share is None or not same_pace(share.grant, self._share.grant):
            self._told_at = monotonic()
        self._share = share
        self._run.engine.regrant(grant)

    def _look_for_a_parent(self) -> None:
        """A parent that never comes again grants nothing: the shard ends as at its cap."""
        if not self._run.engine.limits.budget.short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = monotonic()
        elif monotonic() - self._short_since > ALONE_S and self._share is not None:
            grant = self._share.grant
            cap = (grant.max_cost or Decimal(0)) - self._before
            self._run.engine.regrant(Grant(grant.concurrency, grant.per_second, cap, last=True))


def _spent_before(run: RunContext) -> Decimal:
    """Dollars of the calls of earlier processes of the shard."""
    plan, spent = run.plan, Decimal(0)
    assert plan.part is not None
    folder, number = run_folder("calls", plan.name, plan.run_id), f"{plan.part.number:03}-"
    for beginning in (f"part-{number}", f"part-recovered-{plan.run_id}.{number}"):
        for part in sound_parts(plan.output, folder, ["cost_usd"], of=f"{folder}/{beginning}"):
            spent += sum(part.column("cost_usd").to_pylist(), Decimal(0))
    return spent
