"""What holds calls back: slots, the job's rate, the endpoint's headers, and what throttled answers teach."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tasks.asking.limits.aimd import AdaptiveRate
from tasks.asking.limits.buckets import HeaderBuckets, Load
from tasks.asking.limits.limiter import SHUT, Limiter
from tests.virtual_time import in_virtual_time, now

LOAD = Load(100)


class Clock:
    """A clock that goes as far as it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    in_virtual_time(story())


def limiter_of(concurrency: int, **more: Any) -> Limiter:
    """One by the clock of the loop that runs."""
    return Limiter(concurrency, clock=now, **more)


def test_no_more_calls_are_in_flight_than_the_job_says() -> None:
    async def story() -> None:
        limiter, seen = limiter_of(3), []

        async def call() -> None:
            async with limiter.slot(LOAD):
                seen.append(limiter.in_flight)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(call() for _ in range(20)))
        assert max(seen) == 3 and limiter.in_flight == 0

    run(story)


def test_repeated_calls_go_before_new_ones_and_new_ones_in_their_order() -> None:
    async def story() -> None:
        limiter, order = limiter_of(1), []

        async def call(name: str, *, repeated: bool = False) -> None:
            async with limiter.slot(LOAD, repeated=repeated):
                order.append(name)
                await asyncio.sleep(0.01)

        await asyncio.gather(call("a"), call("b"), call("c"), call("again", repeated=True))
        assert order == ["a", "again", "b", "c"]

    run(story)


def test_the_jobs_rate_spaces_calls_evenly() -> None:
    async def story() -> None:
        limiter, starts = limiter_of(50, per_second=50), []

        async def call() -> None:
            async with limiter.slot(LOAD):
                starts.append(now())

        await asyncio.gather(*(call() for _ in range(26)))
        assert starts[-1] - starts[0] == pytest.approx(0.5, abs=0.011)
        for first, sixth in zip(starts, starts[5:], strict=False):
            assert sixth - first > 0.08, "never more than the rate allows, in any stretch"

    run(story)


def test_a_failed_first_call_does_not_open_the_way_for_the_others() -> None:
    async def story() -> None:
        limiter = limiter_of(5, one_first=True)
        async with limiter.slot(LOAD):
            limiter.throttled(0.1)
        calls = [asyncio.create_task(_hold(limiter)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert limiter.in_flight == 1
        limiter.answered(0.1)
        await asyncio.sleep(0.05)
        assert limiter.in_flight == 5
        for call in calls:
            call.cancel()

    run(story)


async def _hold(limiter: Limiter) -> None:
    async with limiter.slot(LOAD):
        await asyncio.sleep(5)


def test_when_all_are_turned_away_everybody_waits_and_then_one_goes_ahead() -> None:
    async def story() -> None:
        limiter, started = limiter_of(10), []
        for _ in range(SHUT):
            async with limiter.slot(LOAD):
                limiter.throttled(0.3)
        begun = now()

        async def call() -> None:
            async with limiter.slot(LOAD):
                started.append(now() - begun)
                await asyncio.sleep(0.2)
            limiter.answered(0.2)

        await asyncio.gather(*(call() for _ in range(5)))
        first, *others = sorted(started)
        assert first == pytest.approx(0.3)
        assert all(other > first + 0.15 for other in others), "the others wait for what the first one meets"

    run(story)


def test_turned_away_calls_among_accepted_ones_that_still_run_pause_nobody() -> None:
    async def story() -> None:
        limiter = limiter_of(30)
        calls = [asyncio.create_task(_hold(limiter)) for _ in range(20)]
        await asyncio.sleep(0)
        for _ in range(SHUT * 2):
            async with limiter.slot(LOAD):
                limiter.throttled(60)
        async with asyncio.timeout(0.5), limiter.slot(LOAD):
            pass
        for call in calls:
            call.cancel()

    run(story)


def test_the_end_of_the_run_frees_everybody_who_waits() -> None:
    async def story() -> None:
        limiter = limiter_of(1, per_second=0.01)

        async def call() -> None:
            async with limiter.slot(LOAD):
                pass

        waiting = [asyncio.create_task(call()) for _ in range(5)]
        await asyncio.sleep(0.05)
        limiter.wake_all()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)

    run(story)


def headers(name: str, limit: int, left: int) -> dict[str, str]:
    return {f"anthropic-ratelimit-{name}-limit": str(limit), f"anthropic-ratelimit-{name}-remaining": str(left)}


def test_without_headers_nothing_waits(clock: Clock) -> None:
    pace = HeaderBuckets(clock)
    pace.observe({"content-type": "application/json", "anthropic-ratelimit-requests-limit": "soon"})
    assert pace.wait(LOAD) == 0


def test_a_nearly_empty_bucket_holds_calls_back_until_it_has_filled_again(clock: Clock) -> None:
    pace = HeaderBuckets(clock)
    pace.observe(headers("requests", 600, 600))
    assert pace.wait(LOAD) == 0
    pace.observe(headers("requests", 600, 0))
    wait = pace.wait(LOAD)
    assert wait == pytest.approx(1.3), "one request and the spare two per cent, at ten a second"
    clock.now += wait
    assert pace.wait(LOAD) == pytest.approx(0)
    pace.left(LOAD)
    assert pace.wait(LOAD) == pytest.approx(0.1)


def test_output_tokens_that_calls_in_flight_will_use_are_counted_beforehand(clock: Clock) -> None:
    pace, load = HeaderBuckets(clock), Load(100, 1000)
    for _ in range(10):
        pace.left(load)
    pace.observe(headers("output-tokens", 60_000, 12_000))
    assert pace.wait(load) > 0, "ten calls in flight will take ten thousand"
    for _ in range(10):
        pace.ended(load)
    pace.observe(headers("output-tokens", 60_000, 12_000))
    assert pace.wait(load) == 0


@pytest.mark.parametrize("name", ["requests", "tokens", "input-tokens", "output-tokens"])
@pytest.mark.parametrize("said", ["nan", "inf", "-inf", "-5", "0", "1e-9", "1e300", "1e12", "1", "1000", "9" * 400, ""])
@pytest.mark.parametrize("left", ["nan", "inf", "-1e18", "0", "1e18", "-0.0"])
def test_limits_that_cannot_be_true_hold_calls_back_for_two_minutes_at_the_most(
    clock: Clock, name: str, said: str, left: str
) -> None:
    pace, load = HeaderBuckets(clock), Load(3000, 500)
    for _ in range(50):
        pace.observe({f"anthropic-ratelimit-{name}-limit": said, f"anthropic-ratelimit-{name}-remaining": left})
        pace.left(load)
    assert 0 <= pace.wait(load) <= 140
    clock.now += 140
    assert pace.wait(load) == pytest.approx(0)


class Endpoint:
    """Answers in `latency` seconds; turns calls away by chance, or beyond so many a second."""

    def __init__(self, clock: Clock, *, chance: float = 0.0, per_second: float | None = None, seed: int = 0) -> None:
        self.clock, self.chance, self.per_second = clock, chance, per_second
        self.answered = self.turned_away = 0
        self._chance = random.Random(seed)
        self._level = 1.0

    def accepts(self, seconds: float) -> bool:
        if self.per_second is None:
            return self._chance.random() >= self.chance
        self._level = min(5.0, self._level + seconds * self.per_second)
        if self._level < 1:
            return False
        self._level -= 1
        return True


def drive(rate: AdaptiveRate, endpoint: Endpoint, seconds: float, *, most: float) -> None:
    """Call as fast as the learned rate and `most` a second allow; each answer comes a fifth of a second later."""
    clock, end = endpoint.clock, endpoint.clock.now + seconds
    due: list[tuple[float, bool]] = []
    endpoint.answered = endpoint.turned_away = 0
    while clock.now < end:
        step = 1 / min(most, rate.per_second or most)
        clock.now += step
        rate.sent(waited=True)
        if endpoint.accepts(step):
            due.append((clock.now + 0.2, True))
        else:
            endpoint.turned_away += 1
            rate.throttled()
        while due and due[0][0] <= clock.now:
            due.pop(0)
            endpoint.answered += 1
            rate.good(0.2)


def test_an_endpoint_with_a_silent_limit_teaches_its_rate(clock: Clock) -> None:
    rate, endpoint = AdaptiveRate(clock), Endpoint(clock, per_second=40)
    drive(rate, endpoint, 60, most=400)
    drive(rate, endpoint, 60, most=400)
    assert endpoint.answered >= 0.8 * 60 * 40, "most of what the endpoint bears is used"
    assert endpoint.turned_away < 0.5 * endpoint.answered, "without a limiter it would be nine for each answer"


@pytest.mark.parametrize("seed", range(10))
def test_a_storm_that_slowing_down_does_not_calm_costs_little(clock: Clock, seed: int) -> None:
    rate, endpoint = AdaptiveRate(clock), Endpoint(clock, chance=0.36, seed=seed)
    drive(rate, endpoint, 120, most=100)
    assert endpoint.answered >= 0.95 * 120 * 100 * 0.64


def test_after_the_trouble_the_free_rate_comes_back_step_by_step(clock: Clock) -> None:
    rate, endpoint = AdaptiveRate(clock), Endpoint(clock, per_second=20)
    drive(rate, endpoint, 30, most=200)
    braked = rate.per_second
    assert braked is not None and braked < 60
    endpoint.per_second, endpoint.chance = None, 0.0
    drive(rate, endpoint, 4, most=200)
    assert rate.per_second is not None and rate.per_second > braked, "not all at once"
    drive(rate, endpoint, 20, most=200)
    assert rate.per_second is None
