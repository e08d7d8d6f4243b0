"""A shard as its parent sees it, and the shard's turn, which the parent takes in the place of one that was given up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tasks.asking.limits import Grant
from tasks.orchestration.context import RunContext
from tasks.orchestration.fleet.granting import Stake
from tasks.orchestration.fleet.reports import NOTHING_YET, Holding, Report, Share, same_pace
from tasks.orchestration.summary import Figures
from tasks.orchestration.turn import Turn, lease_uri
from tasks.planning.plan import Part, Plan
from tasks.recording.rows import Row
from tasks.storage.lease import Watch

LEASE_S = 5.0  # between two looks at a lease


@dataclass
class Shard:
    """One shard, as the parent sees it."""

    number: int
    images: int
    watch: Watch
    attempt: int = 0
    flow_run: UUID | None = None
    grant: Grant = NOTHING_YET
    report: Report | None = None
    alive: bool = False
    """Whether this process of it was seen at work."""
    missed: int = 0
    """Looks at which it was gone, without a last report."""
    over: bool = False
    given_up: str | None = None
    """Why nobody tries it again."""
    told: Share | None = None
    looked: float = 0.0
    spent: Holding = field(default_factory=Holding)
    by_parent: Figures = field(default_factory=Figures)
    """Of the rows that the parent has written in its place."""

    @property
    def part(self) -> Part:
        """Its process."""
        return Part(self.number, self.attempt)

    @property
    def line(self) -> dict[str, Any]:
        """How it ended, for the summary."""
        told = self.report.figures if self.report else self.by_parent
        ended = self.report.ended if self.report else None
        return {
            "shard": self.number,
            "state": "failed" if self.given_up else ended or "not begun",
            "images": self.images,
            "ok": told.statuses["ok"],
            "failed": told.counts["rows"] - told.statuses["ok"],
            "processes": self.attempt + 1,
            "message": self.given_up or (self.report and self.report.message),
        }

    def counted(self, rows: list[Row]) -> list[Row]:
        """Rows that the parent writes in its place."""
        for row in rows:
            self.by_parent.add(row)
        return rows

    @property
    def left(self) -> int:
        """Images that it has still to ask about, as far as it may be given slots for them."""
        if self.over or self.report is None:
            return 0
        return max(1, self.images - self.report.figures.counts["images"])

    @property
    def waits(self) -> bool:
        """Whether no worker has taken it yet."""
        return not (self.over or self.alive or self.report)

    @property
    def moves(self) -> bool:
        """Whether it has not heard yet how many places it has, or has still to free some."""
        told = self.report
        if self.over or told is None or told.ended:
            return False
        return told.holding.concurrency > self.grant.concurrency or not same_pace(told.grant, self.grant)

    def stake(self, *, ending: bool) -> Stake:
        """For `granted`."""
        told = self.report
        heard = told is None or told.ended is not None or told.grant == self.grant
        return Stake(self.grant, told.holding if told else self.spent, 0 if ending else self.left, heard)

    def begin_again(self) -> None:
        """Its next process; what this one had of the cap is not free before that has counted what was spent."""
        used = self.report.holding.used if self.report else self.spent.used
        self.spent = Holding(max_cost=self.grant.max_cost or used, used=used)
        self.grant = Grant(0, None if self.grant.per_second is None else 0.0, self.grant.max_cost, last=False)
        self.attempt, self.flow_run, self.report, self.alive, self.missed = self.attempt + 1, None, None, False, 0


def turn_of(plan: Plan, number: int) -> str:
    """The name of a shard's turn."""
    return f"{plan.names[0]}.{plan.run_id}.{number:03}"


def watch_of(run: RunContext, number: int) -> Watch:
    """Of its lease."""
    return Watch(lease_uri(run.plan.output, turn_of(run.plan, number)))


@contextmanager
def in_place_of(run: RunContext, number: int) -> Iterator[None]:
    """Holding the shard's turn, so that none of its processes begins. BusyError if one is at work."""
    turn = Turn(run.plan.output, turn_of(run.plan, number), run.plan.run_id, _nothing, leased=True)
    try:
        turn.wait(0)
        yield
    finally:
        turn.release()


def _nothing(_: str) -> None:
    """Nobody has to know."""
