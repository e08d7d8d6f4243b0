"""One set of limits over all shards: whatever happens in whatever order, never more than the whole is out."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from tasks.asking.limits import Grant
from tasks.orchestration.fleet.granting import Stake, Whole, granted
from tasks.orchestration.fleet.reports import NOTHING_YET, Holding, Report, Share

WHOLE = Whole(50, 7.0, Decimal(10))


class Shards:
    """Shards that hear of their grants late, and report late."""

    def __init__(self, images: list[int]) -> None:
        self.stakes = {number: Stake(NOTHING_YET, Holding(), 0) for number in range(1, len(images) + 1)}
        self.images = images

    def grant(self) -> None:
        for number, grant in granted(WHOLE, self.stakes).items():
            self.stakes[number] = replace(self.stakes[number], grant=grant)

    def report(self, number: int, *, spend: Decimal = Decimal(0)) -> None:
        one = self.stakes[number]
        room = max((one.grant.max_cost or Decimal(0)) - one.holding.used, Decimal(0))
        used = one.holding.used + min(spend, room)
        cap = max(one.grant.max_cost or Decimal(0), used)
        holding = Holding(one.grant.concurrency, one.grant.per_second or 0.0, cap, used)
        self.stakes[number] = replace(one, holding=holding)

    def check(self) -> None:
        out = self.stakes.values()
        assert sum(max(one.grant.concurrency, one.holding.concurrency) for one in out) <= 50
        assert sum(max(one.grant.per_second or 0, one.holding.per_second) for one in out) <= 7.0 + 1e-6
        assert sum(max(one.grant.max_cost or 0, one.holding.max_cost) for one in out) <= 10


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_the_whole_is_out(seed: int) -> None:
    chance = random.Random(seed)
    shards = Shards([chance.randrange(1, 100) for _ in range(chance.randrange(1, 6))])
    for _ in range(200):
        number = chance.choice(list(shards.stakes))
        match chance.randrange(4):
            case 0:
                shards.stakes[number] = replace(shards.stakes[number], left=chance.choice([0, 1, 5, 100]))
            case 1 | 2:
                shards.report(number, spend=Decimal(chance.randrange(100)) / 100)
        shards.grant()
        shards.check()


def test_who_is_at_work_has_all_of_it() -> None:
    shards = Shards([100, 100])
    shards.stakes[1] = replace(shards.stakes[1], left=100)
    shards.grant()
    assert shards.stakes[1].grant.concurrency == 50
    shards.report(1)
    shards.stakes[2] = replace(shards.stakes[2], left=100)
    shards.grant()
    assert [one.grant.concurrency for one in shards.stakes.values()] == [25, 0], "it has not yet given them up"
    shards.report(1)
    shards.grant()
    assert [one.grant.concurrency for one in shards.stakes.values()] == [25, 25]
    shards.stakes[1] = replace(shards.stakes[1], left=3)
    shards.grant()
    shards.report(1)
    shards.grant()
    assert [one.grant.concurrency for one in shards.stakes.values()] == [3, 47], "no more than it has images for"


def test_a_grant_that_a_shard_may_take_any_moment_is_given_to_nobody_else() -> None:
    """What it holds was told before it heard of the grant: nothing yet."""
    shards = Shards([100, 100])
    shards.stakes[1] = replace(shards.stakes[1], left=100)
    shards.grant()
    shards.stakes[1] = replace(shards.stakes[1], heard=False)
    shards.stakes[2] = replace(shards.stakes[2], left=100)
    shards.grant()
    all_of_it, nothing = Grant(50, 7.0, Decimal(10), last=False), Grant(0, 0.0, Decimal(0), last=False)
    assert [one.grant for one in shards.stakes.values()] == [all_of_it, nothing]
    shards.report(1)
    shards.stakes[1] = replace(shards.stakes[1], heard=True)
    shards.grant()
    assert [one.grant.concurrency for one in shards.stakes.values()] == [25, 0]


def test_dollars_are_over_when_all_that_is_left_is_enough_for_no_call() -> None:
    shards = Shards([100, 100])
    for number in (1, 2):
        shards.stakes[number] = replace(shards.stakes[number], left=100)
    shards.grant()
    for number in (1, 2):
        shards.report(number, spend=Decimal("4.9"))
    for _ in range(4):
        for number in (1, 2):
            one = shards.stakes[number]
            shards.stakes[number] = replace(one, holding=replace(one.holding, short=True))
        shards.grant()
        if shards.stakes[1].grant.last:
            break
        for number in (1, 2):
            shards.report(number)
    assert shards.stakes[1].grant.last and shards.stakes[2].grant.last
    assert shards.stakes[1].grant.max_cost == Decimal("5.1"), "all that was left was offered to one"


def test_what_is_told_is_what_is_read() -> None:
    share = Share(2, Grant(5, 0.5, Decimal("1.25"), last=False))
    assert Share.read(share.json) == share
    report = Report(1, "host", holding=Holding(3, 0.5, Decimal("1.5"), Decimal("0.1"), short=True), ended="paused")
    report = replace(report, grant=share.grant)
    assert Report.read(report.json) == report
    assert Report.read({"attempt": 1}) is None and Share.read(None) is None
