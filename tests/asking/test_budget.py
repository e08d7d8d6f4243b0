"""The cap: never passed, not even by what was perhaps paid; the run pauses and goes on when the cap is raised."""

import asyncio
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from config.models import listed_models
from config.prices import prices_of
from tasks.asking.limits.budget import Budget, BudgetSpent
from tasks.asking.priced import worst_case
from tasks.billing.pricing import cost_usd
from tasks.billing.usage import Usage
from tasks.simulator import Simulator
from tests.asking import asking, page, pages, prepared, question
from tests.runs import examples
from tests.virtual_time import in_virtual_time


def test_who_waits_for_room_has_it_when_the_cap_is_raised() -> None:
    """As a shard's is, once it is granted its share: its first calls may have come before that."""

    async def story() -> None:
        budget, made = Budget(Decimal(0)), list[int]()
        budget.recap(Decimal(0), last=False)

        async def call(number: int) -> None:
            async with budget.reserved(Decimal(2)) as reservation:
                made.append(number)
                reservation.paid(Decimal(1))

        calls = [asyncio.create_task(call(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert budget.short and made == []
        budget.recap(Decimal(4), last=False)
        await asyncio.sleep(0.01)
        assert made == [0, 1, 2], "each costs one, and two are set aside for it"
        budget.recap(Decimal(4), last=True)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in ended] == [type(None)] * 3 + [BudgetSpent]

    in_virtual_time(story())


@settings(max_examples=examples(200))
@given(
    cap=st.integers(0, 60),
    calls=st.lists(st.tuples(st.integers(1, 20), st.floats(0, 1), st.booleans()), min_size=1, max_size=30),
)
def test_whatever_calls_cost_the_cap_is_never_passed(cap: int, calls: list[tuple[int, float, bool]]) -> None:
    async def story() -> None:
        budget, refused = Budget(Decimal(cap)), 0

        async def call(worst: int, share: float, seen: bool) -> None:
            nonlocal refused
            try:
                async with budget.reserved(Decimal(worst)) as reservation:
                    assert budget.used + budget.set_aside <= cap
                    await asyncio.sleep(0)
                    if seen:
                        reservation.paid(Decimal(worst) * Decimal(share))
                    else:
                        reservation.maybe_paid()
            except BudgetSpent:
                refused += 1
                assert budget.used + worst > cap

        await asyncio.gather(*(call(*each) for each in calls))
        assert budget.used <= cap and budget.set_aside == 0
        if sum(worst for worst, *_ in calls) <= cap:
            assert refused == 0

    in_virtual_time(story())


def test_a_warning_is_due_at_four_fifths() -> None:
    async def story() -> None:
        budget = Budget(Decimal(10))
        for paid, warned in ((7, False), (1, True)):
            async with budget.reserved(Decimal(2 if paid == 1 else 7)) as reservation:
                reservation.paid(Decimal(paid))
            assert budget.nearly_spent is warned
        assert not Budget(None).nearly_spent

    asyncio.run(story())


@settings(max_examples=examples(300))
@given(
    model=st.sampled_from([model for model in listed_models() if prices_of("anthropic", model)]),
    prompt_bytes=st.integers(1, 200_000),
    split=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    us=st.booleans(),
)
def test_no_call_costs_more_than_its_worst_case(model: str, prompt_bytes: int, split: list[float], us: bool) -> None:
    asked, prices = question("x" * prompt_bytes, model=model), prices_of("anthropic", model)
    tokens = prompt_bytes + 6  # a token a byte, and an image of 3 x 2 patches
    written, read = (int(tokens * share / 2) for share in split[1:])
    usage = Usage(
        input=tokens - written - read,
        output=int(asked.max_tokens * split[0]),
        cache_write_5m=written,
        cache_read=read,
        geo="us" if us and prices[0].us_factor else None,
    )
    assert cost_usd(usage, prices) <= worst_case(asked, prepared(), prices)


def test_a_run_pauses_below_its_cap_and_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    worst = worst_case(question(), prepared(), prices_of("anthropic", "claude-haiku-5-5"))
    cap = worst * 3
    with Simulator(latency=0.01) as simulator:
        with asking(simulator.url, tmp_path, max_cost=cap, run_id="first") as first:
            outcomes = first.ask(pages(300), attempts=3)
        answered = sum(outcome.status == "ok" for outcome in outcomes)
        assert first.halt.kind == "paused" and f"${cap}" in first.halt.message
        assert 0 < answered < 300 and {outcome.status for outcome in outcomes} == {"ok", "unasked"}
        assert cap - worst < simulator.ledger().cost_usd <= cap, "no more, and no less than the next call could need"
        assert first.engine.nearly_spent is (first.cost >= cap * Decimal("0.8"))
        with asking(simulator.url, tmp_path, max_cost=Decimal(1), run_id="raised") as raised:
            again = raised.ask(pages(300), attempts=3)
        assert {outcome.status for outcome in again} == {"ok"}
        assert simulator.ledger().billed == 300


def test_calls_that_were_perhaps_paid_count_against_the_cap(tmp_path: Path) -> None:
    worst = worst_case(question(), prepared(), prices_of("anthropic", "claude-haiku-5-5"))
    with Simulator(faults="drop_paid=1") as simulator:
        with asking(simulator.url, tmp_path, max_cost=worst * 4, concurrency=2) as asked:
            outcomes = asked.ask(pages(20), attempts=1)
        assert asked.halt.kind == "paused"
        assert simulator.ledger().requests == 4, "each of them may have cost its worst case"
        assert simulator.ledger().cost_usd <= worst * 4
    assert [call["paid"] for call in asked.calls] == ["maybe"] * 4
    assert sum(outcome.status == "unasked" for outcome in outcomes) == 16


def test_a_cap_below_one_call_asks_nothing(tmp_path: Path) -> None:
    with Simulator() as simulator:
        with asking(simulator.url, tmp_path, max_cost=Decimal("0.000001")) as asked:
            (outcome,) = asked.ask([page(1)], attempts=3)
        assert (outcome.status, outcome.error_code) == ("unasked", "paused")
        assert simulator.ledger().requests == 0
