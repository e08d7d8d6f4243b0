"""One set of limits over all shards: what each may have now, so that all together never have more than was asked for.

Those at work share alike, each no more than it has images left for. What one has to give up is given to another only
once it is free: when the shard has said that it holds no more than it was left, or has ended. So slots move from a
shard that begins, or is nearly done, to one that has work, within some looks of each (a second or two), and no sum ever
is more than the whole. What a shard was told is not changed before it has heard of it: it may take it at any moment.
Prefect's global limits were looked at and left: a slot of theirs costs a request and 70 ms, is freed by nobody when
its holder dies, and knows neither dollars nor which shard has how much left to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from tasks.asking.limits import Grant
from tasks.orchestration.fleet.reports import Holding

NANO = Decimal("0.000000001")


@dataclass(frozen=True)
class Whole:
    """The limits of the run."""

    concurrency: int
    per_second: float | None
    max_cost: Decimal | None


@dataclass(frozen=True)
class Stake:
    """What one shard has, and what it has still to do."""

    grant: Grant
    holding: Holding
    left: int
    """Images that it has still to ask about; 0 once it is over, or as long as it has not begun."""
    heard: bool = True
    """Whether it has heard of its grant, so that its holding tells all that it may have."""

    @property
    def slots(self) -> int:
        """Slots that may be taken."""
        return max(self.grant.concurrency, self.holding.concurrency)

    @property
    def rate(self) -> float:
        """Calls a second that may leave."""
        return max(self.grant.per_second or 0.0, self.holding.per_second)

    @property
    def dollars(self) -> Decimal:
        """Dollars that were or may be spent; of a shard that is over, those that were."""
        return max(self.grant.max_cost or Decimal(0), self.holding.max_cost, self.holding.used)


def granted(whole: Whole, shards: Mapping[int, Stake]) -> dict[int, Grant]:
    """What each shard may use from now on."""
    at_work = {number: one for number, one in shards.items() if one.left}
    slots = _alike(whole.concurrency, {number: one.left for number, one in at_work.items()})
    free_slots = whole.concurrency - sum(one.slots for one in shards.values())
    free_rate = (whole.per_second or 0.0) - sum(one.rate for one in shards.values())
    last, dollars = _dollars(whole, shards)
    grants = {}
    for number, one in shards.items():
        if not one.heard:
            grants[number] = one.grant
            continue
        more = min(slots.get(number, 0) - one.grant.concurrency, free_slots)
        free_slots -= max(more, 0)
        rate = None
        if whole.per_second is not None:
            had = one.grant.per_second or 0.0
            faster = min((whole.per_second / len(at_work) if number in at_work else 0.0) - had, free_rate)
            free_rate -= max(faster, 0.0)
            rate = had + faster
        concurrency = one.grant.concurrency + more
        if rate is not None and rate <= 0:
            concurrency = min(concurrency, 0)
        grants[number] = Grant(max(concurrency, 0), rate, dollars.get(number), last=last)
    return grants


def _alike(whole: int, needs: Mapping[int, int]) -> dict[int, int]:
    """Alike, but none more than it needs."""
    shares, left = {}, whole
    for place, number in enumerate(sorted(needs, key=lambda number: (needs[number], number))):
        shares[number] = min(needs[number], left // (len(needs) - place))
        left -= shares[number]
    return shares


def _dollars(whole: Whole, shards: Mapping[int, Stake]) -> tuple[bool, dict[int, Decimal]]:
    """Dollars for each, and whether there will be no more: all that is left was offered to one, and no call fits."""
    if whole.max_cost is None:
        return True, {}
    at_work = [number for number, one in shards.items() if one.left]
    unused = whole.max_cost - sum(one.holding.used for one in shards.values())
    stuck = bool(at_work) and all(shards[number].holding.short for number in at_work)
    takers = [number for number in at_work if shards[number].heard]
    takers = takers[:1] if stuck else takers  # a little for each may be enough for none
    free = whole.max_cost - sum(one.dollars for one in shards.values())
    dollars, last = {}, False
    for number, one in shards.items():
        if not one.heard:
            continue
        had, wanted = one.grant.max_cost or Decimal(0), one.holding.used
        if number in takers:
            wanted += (unused / len(takers)).quantize(NANO, ROUND_DOWN)
        more = min(wanted - had, free)
        free -= max(more, Decimal(0))
        dollars[number] = had + more
        last |= stuck and number in takers and one.holding.max_cost >= wanted
    return last, dollars
