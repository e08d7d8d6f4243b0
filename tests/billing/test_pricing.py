"""What a call costs: exact to the billionth, checked against the simulator's own arithmetic, refused where unknown."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.models import listed_models
from config.prices import price_table, prices_of
from tasks.billing.pricing import NANO_USD, cost_usd, uncached_cost
from tasks.billing.usage import Usage, usage_of
from tasks.errors import PriceError
from tasks.simulator import ledger
from tasks.simulator.catalogue import known_models
from tasks.simulator.metering import ApiUsage as SimulatedUsage
from tests.runs import examples

PRICED = [model for model in listed_models() if prices_of("anthropic", model)]
TOKENS = st.integers(0, 150_000)


@settings(max_examples=examples(500))
@given(
    model=st.sampled_from(PRICED),
    counts=st.fixed_dictionaries(
        dict.fromkeys(["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"], TOKENS)
    ),
    us=st.booleans(),
)
def test_every_class_of_tokens_costs_what_the_simulator_bills(model: str, counts: dict[str, Any], us: bool) -> None:
    simulated = known_models()[model]
    us &= simulated.takes_geography
    ours = cost_usd(Usage(**counts, geo="us" if us else "global"), prices_of("anthropic", model))
    theirs = ledger.cost(simulated, SimulatedUsage(**counts, geography="us" if us else "global"))
    assert ours == theirs.quantize(NANO_USD)


@pytest.mark.parametrize(("prompt", "usd"), [(100_000, "0.010500000"), (100_001, "0.052500500")])
def test_haiku_55_is_five_times_as_dear_above_100k_of_prompt_whatever_is_cached(prompt: int, usd: str) -> None:
    prices = prices_of("anthropic", "claude-haiku-5-5")
    assert cost_usd(Usage(input=prompt, output=1000), prices) == Decimal(usd)
    cached = Usage(input=1, cache_read=prompt - 1, output=0)
    rate = Decimal("0.01") if prompt <= 100_000 else Decimal("0.05")
    assert cost_usd(cached, prices) == (
        (Decimal(prompt - 1) * rate + (Decimal("0.1") if prompt <= 100_000 else Decimal("0.5"))) / 1_000_000
    ).quantize(NANO_USD)


@pytest.mark.parametrize("model", PRICED)
def test_a_batch_costs_half(model: str) -> None:
    usage, prices = Usage(input=2_000_000, output=1_000_000), prices_of("anthropic", model)
    assert cost_usd(usage, prices, batch=True) * 2 == cost_usd(usage, prices)


def test_a_batch_at_a_gateway_without_a_batch_price_is_refused() -> None:
    with pytest.raises(PriceError, match="no batch price"):
        cost_usd(Usage(input=1), prices_of("holysheep", "gpt-4.1"), batch=True)


def test_the_gateway_bills_every_token_at_one_rate() -> None:
    usage = Usage(input=1_000_000, output=1_000_000, cache_read=1_000_000, geo="us")
    assert cost_usd(usage, prices_of("holysheep", "deepseek-v3.2")) == Decimal("1.26")


def test_what_caching_saved_is_the_difference_to_plain_input() -> None:
    prices = prices_of("anthropic", "claude-sonnet-5-5")
    usage = Usage(input=100, cache_read=1_000_000, output=10)
    assert uncached_cost(usage, prices) - cost_usd(usage, prices) == Decimal("1.9")


def test_a_model_without_a_row_or_a_prompt_no_row_covers_is_refused() -> None:
    with pytest.raises(PriceError):
        cost_usd(Usage(input=1), prices_of("anthropic", "gpt-4.1"))
    only_small = prices_of("anthropic", "claude-haiku-5-5")[:1]
    with pytest.raises(PriceError, match="100,001"):
        cost_usd(Usage(input=100_001), only_small)


def test_an_answer_made_in_the_us_needs_a_price_for_that() -> None:
    with pytest.raises(PriceError, match="US"):
        cost_usd(Usage(input=1, geo="us"), prices_of("anthropic", "claude-haiku-4-5"))


def usage_from(**usage: Any) -> Usage:
    """Usage of an answer's JSON."""
    return usage_of({"input_tokens": 10, "output_tokens": 5, **usage})


def test_a_gateways_sparse_usage_is_enough() -> None:
    assert usage_from() == Usage(input=10, output=5)
    assert usage_from(total_tokens=15, cache_read_input_tokens=None) == Usage(input=10, output=5)
    assert usage_from(cache_creation_input_tokens=7) == Usage(input=10, output=5, cache_write_5m=7)


@pytest.mark.parametrize("total", [None, 0, 12, 20])
def test_writes_to_the_cache_are_counted_where_a_gateway_adds_them_up_wrongly(total: int | None) -> None:
    """A sum of 0 beside its parts is one that was not filled in."""
    parts = {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 15}
    usage = usage_from(cache_creation_input_tokens=total, cache_creation=parts)
    assert (usage.cache_write_5m, usage.cache_write_1h) == (5, 15)


def test_all_classes_are_read() -> None:
    usage = usage_from(
        cache_creation_input_tokens=30,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        cache_read_input_tokens=40,
        output_tokens_details={"thinking_tokens": 3},
        inference_geo="us",
        service_tier="standard",
    )
    assert usage == Usage(10, 5, 40, 10, 20, 3, "us")
    assert usage.prompt == 80 and usage.cache_write == 30


@pytest.mark.parametrize(
    ("unknown", "named"),
    [
        ({"audio_input_tokens": 4}, "audio_input_tokens=4"),
        ({"cache_creation": {"ephemeral_24h_input_tokens": 9}}, "ephemeral_24h_input_tokens=9"),
        ({"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}}, "web_search_requests=1"),
        ({"service_tier": "priority"}, "service_tier=priority"),
        ({"speed": "fast"}, "speed=fast"),
        ({"inference_geo": "eu"}, "inference_geo=eu"),
    ],
)
def test_a_charge_without_a_price_is_refused_not_guessed(unknown: dict[str, Any], named: str) -> None:
    usage = usage_from(**unknown)
    with pytest.raises(PriceError, match=named):
        cost_usd(usage, prices_of("anthropic", "claude-haiku-5-5"))


def test_every_row_says_where_it_comes_from_and_when_it_was_checked() -> None:
    for price in price_table():
        assert price.source.startswith("https://") and price.checked.year >= 2026
        assert min(price.input, price.output, price.cache_write_5m, price.cache_write_1h, price.cache_read) > 0
