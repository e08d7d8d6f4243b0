"""The limiter against the simulator over a socket: a storm is ridden out, and announced limits are kept."""

from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from time import monotonic
from typing import Any

from tasks.simulator import Settings, Simulator
from tests.asking import asking, pages, question, steps

STORM = "429=0.30:1,529=0.05,500=0.01,502=0.01,drop=0.02,hang=0.01,truncate=0.01"
FEW = 3  # turned away, where without the headers most calls are: on a busy machine, the two sides' clocks may differ


def test_in_a_storm_every_image_is_answered_within_the_jobs_concurrency(tmp_path: Path) -> None:
    asked_about = pages(150)
    with Simulator(latency=0.05, faults=STORM.replace(":1", ":0.2")) as simulator:
        with asking(simulator.url, tmp_path, concurrency=20, timeout=0.8) as asked:
            outcomes = asked.ask(asked_about, attempts=8)
            assert {outcome.status for outcome in outcomes} == {"ok"}
            assert max(page.attempts for page in asked_about) > 3
            simulator.set_faults()
            simulator.change(latency=0.4)  # long enough for twenty to begin, however busy the machine
            storm = len(asked.calls)
            asked.ask(pages(150, start=1000), attempts=1)
            assert most_at_once(asked.calls[storm:]) >= 20, "the job's concurrency is reached again"
        assert simulator.ledger().peak_in_flight <= 20 + 5, "hanging calls that we gave up are seen for a moment longer"
    failed = [call for call in asked.calls if call["outcome"] == "failed"]
    assert {call["error_type"] for call in failed} >= {"timeout", "connection", "truncated_body"}


def most_at_once(calls: list[dict[str, Any]]) -> int:
    """So many of the calls were under way at the same moment."""
    begins = [call["started_at"] for call in calls]
    ends = [call["started_at"] + timedelta(milliseconds=call["latency_ms"]) for call in calls]
    steps = sorted([*((at, 1) for at in begins), *((at, -1) for at in ends)])
    return max(accumulate(step for _, step in steps))


def test_headers_keep_a_run_under_the_request_limit(tmp_path: Path) -> None:
    settings = Settings(latency=0.02, requests_per_minute=1200, burst_s=1.0)
    with Simulator(settings) as simulator, asking(simulator.url, tmp_path, concurrency=10) as asked:
        begun = monotonic()
        asked.ask(pages(100), attempts=3)
        seconds = monotonic() - begun
    assert asked.outcomes_of("throttled") <= FEW
    assert seconds >= 80 / 20 * 0.9, "a hundred calls at twenty a second, the first burst free"


def test_headers_keep_a_run_under_the_token_limit(tmp_path: Path) -> None:
    long = steps(question("word " * 4000))  # 6,500 tokens, 260,000 in all: twice what may come at once
    settings = Settings(latency=0.02, input_tokens_per_minute=3_000_000, burst_s=2.0)
    with Simulator(settings) as simulator, asking(simulator.url, tmp_path, concurrency=10, steps=long) as asked:
        begun = monotonic()
        asked.ask(pages(40), attempts=3)
        seconds = monotonic() - begun
    assert seconds >= 160_000 / 50_000 * 0.8
    assert asked.outcomes_of("throttled") <= FEW
    assert asked.outcomes_of("answered") == 40
