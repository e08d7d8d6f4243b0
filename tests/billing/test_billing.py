"""The ledger and the bill against the simulator's own ledger, to the last digit, whatever goes wrong."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.asking import caller
from tasks.billing.bill import Bill, in_yuan
from tasks.billing.pricing import NANO_USD
from tasks.errors import PriceError
from tasks.simulator import Simulator
from tests.asking import Asked, asking, page, pages, question, steps
from tests.http_servers import Handler, serving
from tests.runs import examples

FAULTS = [
    "ok", "429:0.001", "529:0.001", "ramp:0.001", "500", "502", "503", "504", "408", "409", "400", "413", "html",
    "drop_paid", "drop_unpaid", "truncate", "refusal", "refusal_empty", "max_tokens", "slow:0.001",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(caller, "BACKOFF_S", (0.001,))
    monkeypatch.setattr(caller, "THROTTLED_S", 0.001)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def assert_the_ledgers_agree(asked: Asked, simulator: Simulator) -> None:
    ledger = simulator.ledger()
    ours = {call["request_id"]: call for call in asked.calls if call["paid"] == "yes"}
    theirs = {entry.request_id: entry for entry in ledger.entries if entry.billed}
    perhaps = [call for call in asked.calls if call["paid"] == "maybe"]
    assert len(asked.calls) == ledger.requests, "every call is a row, and every row a call"
    assert ours.keys() <= theirs.keys(), "nothing is booked that was not billed"
    assert len(theirs) - len(ours) <= len(perhaps), "what was billed and not seen is listed as perhaps paid"
    for request_id, call in ours.items():
        usage = theirs[request_id].usage
        assert call["cost_usd"] == theirs[request_id].cost_usd.quantize(NANO_USD)
        assert (call["input_tokens"], call["output_tokens"]) == (usage.input, usage.output)
        assert (call["thinking_tokens"], call["cache_read_tokens"]) == (usage.thinking, usage.cache_read)
        assert (call["cache_write_5m_tokens"], call["cache_write_1h_tokens"]) == (
            usage.cache_write_5m,
            usage.cache_write_1h,
        )
    assert asked.cost == sum((theirs[key].cost_usd.quantize(NANO_USD) for key in ours), Decimal(0))
    assert all(call["cost_usd"] == 0 for call in asked.calls if call["paid"] != "yes")


def assert_the_bill_adds_up(asked: Asked) -> None:
    bill = Bill("anthropic")
    bill.add_calls(asked.calls)
    rows = bill.rows(cny_per_usd=Decimal("7.0197"), simulated=True)
    assert sum((row["cost_usd"] for row in rows), Decimal(0)) == bill.cost_usd == asked.cost
    assert sum(row["calls"] for row in rows) == len(asked.calls)
    assert bill.total("calls_maybe_paid") == sum(call["paid"] == "maybe" for call in asked.calls)


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(st.sampled_from(FAULTS), max_size=25),
    models=st.permutations(["claude-haiku-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"]),
    system=st.sampled_from([None, "Be exact. " * 20, "Be exact. " * 800]),
    images=st.lists(st.integers(0, 6), min_size=1, max_size=10),
)
def test_whatever_fails_the_ledger_is_the_simulators(
    simulator: Simulator, script: list[str], models: list[str], system: str | None, images: list[int]
) -> None:
    simulator.reset()
    simulator.set_faults(script=script)
    climbed = steps(*(question(model=model, system=system) for model in models))
    with (
        TemporaryDirectory() as folder,
        asking(simulator.url, Path(folder), steps=climbed, concurrency=4) as asked,
    ):
        asked_about = [page(number, uri=f"{place}.png") for place, number in enumerate(images)]
        outcomes = asked.ask(asked_about, attempts=3)
        assert len(outcomes) == len(images)
        assert sum((each.spent for each in asked_about), Decimal(0)) == asked.cost
        assert_the_ledgers_agree(asked, simulator)
        assert_the_bill_adds_up(asked)


def test_a_prompt_above_haikus_threshold_is_billed_at_the_dear_row(simulator: Simulator, tmp_path: Path) -> None:
    simulator.reset()
    simulator.set_faults()
    long = steps(question("word " * 65_000), question("short"))
    with asking(simulator.url, tmp_path, steps=long) as asked:
        asked.ask(pages(1), attempts=1)
    (call,) = asked.calls
    assert call["input_tokens"] > 100_000
    assert call["cost_usd"] > call["input_tokens"] * Decimal("0.5") / 1_000_000
    assert_the_ledgers_agree(asked, simulator)


def test_a_call_that_hangs_is_listed_as_perhaps_paid(simulator: Simulator, tmp_path: Path) -> None:
    simulator.reset()
    simulator.set_faults(script=["hang", "ok"])
    with asking(simulator.url, tmp_path, timeout=3.0) as asked:
        asked.ask(pages(1), attempts=2)
    assert [(call.get("error_type"), call["paid"]) for call in asked.calls] == [("timeout", "maybe"), (None, "yes")]
    assert_the_ledgers_agree(asked, simulator)


def test_one_call_warms_the_cache_and_the_saving_is_on_the_bill(tmp_path: Path) -> None:
    system = "You read receipts, exactly and completely. " * 80
    with (
        Simulator(latency=0.05) as simulator,
        asking(simulator.url, tmp_path, steps=steps(question(system=system)), concurrency=10) as asked,
    ):
        asked.ask(pages(20), attempts=3)
        assert_the_ledgers_agree(asked, simulator)
    written = [call for call in asked.calls if call["cache_write_tokens"]]
    assert len(written) == 1, "only the first call writes; the others read"
    assert sum(call["cache_read_tokens"] for call in asked.calls) == 19 * written[0]["cache_write_tokens"]
    bill = Bill("anthropic")
    bill.add_calls(asked.calls)
    tokens = written[0]["cache_write_tokens"]
    expected = (19 * tokens * Decimal("0.09") - tokens * Decimal("0.025")) / 1_000_000
    (line,) = bill.lines.values()
    assert abs(line.saved["saved_caching_usd"] - expected) < Decimal("0.00000002"), "each call is rounded"


def test_a_prompt_too_short_to_cache_is_sent_plain(simulator: Simulator, tmp_path: Path) -> None:
    simulator.reset()
    simulator.set_faults()
    asked_question = question(system="Be brief.", model="claude-haiku-4-5")
    with asking(simulator.url, tmp_path, steps=steps(asked_question)) as asked:
        asked.ask(pages(2), attempts=3)
    assert [call["cache_write_tokens"] for call in asked.calls] == [0, 0]
    assert asked_question.cache_notice == (
        "The system prompt is not cached: it has some 1 tokens, and claude-haiku-4-5 caches from 4,096 on."
    )


class ChargesForAudio(Handler):
    """An endpoint whose usage has a class of tokens that no table knows."""

    def do_POST(self) -> None:
        self.body()
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": "A receipt."}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 5, "audio_input_tokens": 700},
        }
        self.answer(200, json.dumps(message).encode())


def test_an_unknown_class_of_tokens_stops_the_run_and_the_answer_is_kept(tmp_path: Path) -> None:
    with serving(ChargesForAudio) as url, asking(url, tmp_path, concurrency=1) as asked:
        outcomes = asked.ask(pages(5), attempts=3)
    assert [outcome.status for outcome in outcomes] == ["ok"] + ["unasked"] * 4
    assert isinstance(asked.halt.error, PriceError)
    assert "audio_input_tokens=700" in asked.halt.message
    assert [record["text"] for record in asked.store.records()] == ["A receipt."]
    (call,) = asked.calls
    assert (call["outcome"], call["paid"], call["cost_usd"]) == ("answered", "maybe", 0)
    assert "audio_input_tokens=700" in call["error"]
    assert_the_bill_adds_up(asked)


def test_kept_answers_and_duplicates_are_savings_not_costs() -> None:
    bill = Bill("anthropic")
    row = {"model": "claude-haiku-5-5", "endpoint": "anthropic", "preset": "ocr", "page": 1, "kept_usd": "0.002"}
    kept, asked = {**row, "cached": True}, {**row, "cached": False}
    bill.add_rows([kept, {**asked, "duplicate_of": "a.png"}, asked, {**asked, "page": 2}])
    (line,) = bill.lines.values()
    assert (line.saved["saved_kept_usd"], line.saved["saved_duplicates_usd"]) == (Decimal("0.002"), Decimal("0.002"))
    assert bill.cost_usd == 0 and bill.total("images") == 3, "the second page belongs to the image of the first"


def test_an_unpriced_model_has_a_bill_of_nothing_even_when_it_caches() -> None:
    call = {
        "model": "their-own", "endpoint": "https://gw", "preset": "ocr", "tier": "standard", "paid": "yes",
        "cost_usd": Decimal(0), "input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 9, "cache_write_tokens": 0,
        "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0, "inference_geo": None,
    }  # fmt: skip
    bill = Bill("anthropic")
    bill.add_calls([call])
    (row,) = bill.rows(cny_per_usd=Decimal(1), simulated=False)
    assert row["cost_usd"] == row["saved_caching_usd"] == 0 and row["price_source"] is None


def test_yuan_at_the_jobs_rate() -> None:
    assert in_yuan(Decimal("1.5"), Decimal("7.0197")) == Decimal("10.529550000")
