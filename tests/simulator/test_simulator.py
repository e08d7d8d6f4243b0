"""The simulator's answers and its bill, as callers see them."""

import asyncio
import base64
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import anthropic
import pytest
from anthropic import AsyncAnthropic
from PIL import Image

from tasks.simulator import Settings, Simulator
from tasks.simulator.catalogue import ApiError
from tasks.simulator.metering import PromptCache, RateLimits
from tasks.simulator.rules import read_question
from tests.simulator_requests import (
    MODEL,
    body_of,
    client_of,
    encoded,
    image_block,
    picture,
    post,
    strict,
    text_of,
    wait_until,
    with_schema,
)


def test_an_answer_thinks_first_says_that_it_is_simulated_and_is_billed_by_the_token_rule(simulator: Simulator) -> None:
    photo = encoded(Image.new("RGB", (4032, 3024)))
    with client_of(simulator) as client:
        raw = client.messages.with_raw_response.create(**body_of(image_block(photo, "image/jpeg")))
        words = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "What is this?"}])
    message = raw.parse()

    assert [block.type for block in message.content] == ["thinking", "text"]
    assert "simulator" in text_of(message)
    assert "4032x3024" in text_of(message)
    assert raw.headers["visionflow-simulated"] == "true"
    assert (message.model, message.stop_reason) == (f"simulated/{MODEL}", "end_turn")
    assert message.id.startswith("msg_simulated_")
    assert raw.request_id is not None
    assert raw.request_id.startswith("req_simulated_")
    # 4032x3024 is seen as 2212x1659: 79 x 60 patches (published example).
    assert message.usage.input_tokens == words.input_tokens + 79 * 60
    usage = message.usage
    assert usage.output_tokens_details is not None
    assert 0 < usage.output_tokens_details.thinking_tokens < usage.output_tokens

    entry = simulator.ledger().entries[0]
    assert entry.request_id == raw.request_id
    assert entry.billed
    dollars = (usage.input_tokens * Decimal("0.10") + usage.output_tokens * Decimal("0.50")) / 1_000_000
    assert entry.cost_usd == dollars == simulator.ledger().cost_usd


def test_a_standard_model_sees_less_and_does_not_think(simulator: Simulator) -> None:
    photo = encoded(Image.new("RGB", (1920, 1080)))
    with client_of(simulator) as client:
        message = client.messages.create(**body_of(image_block(photo, "image/jpeg"), model="claude-haiku-4-5"))
        words = client.messages.count_tokens(
            model="claude-haiku-4-5", messages=[{"role": "user", "content": "What is this?"}]
        )
    assert [block.type for block in message.content] == ["text"]
    assert message.usage.input_tokens == words.input_tokens + 1560


def test_without_ocr_the_answer_is_a_function_of_image_and_question(simulator: Simulator) -> None:
    def answer(number: int, prompt: str) -> str:
        with client_of(simulator) as client:
            return text_of(client.messages.create(**body_of(image_block(picture(number)), prompt=prompt)))

    assert answer(1, "Which colour?") == answer(1, "Which colour?")
    assert len({answer(1, "Which colour?"), answer(2, "Which colour?"), answer(1, "Which shape?")}) == 3


def test_max_tokens_cuts_the_answer_and_thinking_can_eat_it_all(simulator: Simulator) -> None:
    schema = with_schema(strict(text={"type": "string"}))
    with client_of(simulator) as client:
        cut = client.messages.create(**body_of(model="claude-haiku-4-5", max_tokens=12, **schema))
        eaten = client.messages.create(**body_of(max_tokens=16))
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 12)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(cut))
    assert [block.type for block in eaten.content] == ["thinking"]
    assert (eaten.stop_reason, eaten.usage.output_tokens) == ("max_tokens", 16)


def test_models_are_described_as_the_sdk_expects(simulator: Simulator) -> None:
    with client_of(simulator) as client:
        info = client.models.retrieve(MODEL)
        listed = [model.id for model in client.models.list()]
        retired = client.models.retrieve("claude-sonnet-4-20250514")
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("claude-haiku-9")
    assert info.capabilities is not None
    assert (info.lifecycle, info.max_tokens, info.line) == ("active", 64000, "haiku")
    assert info.capabilities.image_input.supported
    assert info.capabilities.structured_outputs.supported
    assert retired.lifecycle == "retired"
    assert MODEL in listed


def cached_body(model: str = MODEL, ttl: str = "5m", number: int = 0) -> dict[str, Any]:
    control = {"type": "ephemeral", "ttl": ttl}
    system = [{"type": "text", "text": "Be exact. " * 400, "cache_control": control}]
    return body_of(image_block(picture(number)), model=model, system=system)


@pytest.mark.parametrize(("ttl", "rate"), [("5m", "0.125"), ("1h", "0.20")])
def test_the_cache_is_written_once_then_read_and_billed_so(simulator: Simulator, ttl: str, rate: str) -> None:
    with client_of(simulator) as client:
        first = client.messages.create(**cached_body(ttl=ttl, number=1)).usage
        second = client.messages.create(**cached_body(ttl=ttl, number=2)).usage
    written = first.cache_creation_input_tokens
    assert written
    assert written >= 512
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, written)
    assert first.input_tokens == second.input_tokens
    assert first.cache_creation is not None
    assert getattr(first.cache_creation, f"ephemeral_{ttl}_input_tokens") == written
    dollars = [u.input_tokens * Decimal("0.10") + u.output_tokens * Decimal("0.50") for u in (first, second)]
    expected = (sum(dollars) + written * Decimal(rate) + written * Decimal("0.01")) / 1_000_000
    assert simulator.ledger().cost_usd == expected


def test_a_prompt_below_the_models_minimum_is_not_cached(simulator: Simulator) -> None:
    with client_of(simulator) as client:
        for number in (1, 2):
            usage = client.messages.create(**cached_body(model="claude-haiku-4-5", number=number)).usage
            assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 0)


def test_an_entry_exists_once_an_answer_begins_and_until_it_expires() -> None:
    clock = [0.0]
    cache = PromptCache(lambda: clock[0])
    question = read_question(cached_body())
    first, parallel = cache.plan(question), cache.plan(question)
    assert parallel.usage.cache_write_5m == first.usage.cache_write_5m > 0
    cache.answer_begins(first)
    clock[0] = 299
    read = cache.plan(question)
    assert read.usage.cache_read == first.usage.cache_write_5m
    cache.answer_begins(read)
    clock[0] = 299 + 299
    assert cache.plan(question).usage.cache_read > 0, "a read keeps the entry alive"
    clock[0] = 299 + 301
    assert cache.plan(question).usage.cache_read == 0


def test_rate_limits_are_told_enforced_and_refilled(simulator: Simulator) -> None:
    with Simulator(requests_per_minute=1, input_tokens_per_minute=100_000, burst_s=180) as limited:
        answers = [post(limited, body_of()) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    assert [headers["anthropic-ratelimit-requests-remaining"] for _, headers, _ in answers] == ["2", "1", "0", "0"]
    refused = answers[-1][1]
    assert refused["anthropic-ratelimit-requests-limit"] == "1"
    assert refused["anthropic-ratelimit-input-tokens-limit"] == "100000"
    assert 30 < int(refused["retry-after"]) <= 60, "what is left of the minute"
    assert not any(name.startswith("anthropic-ratelimit") for name in post(simulator, body_of())[1])


def test_a_token_limit_refuses_until_enough_is_there_again() -> None:
    clock = [0.0]
    limits = RateLimits(Settings(input_tokens_per_minute=6000, burst_s=60), lambda: clock[0])
    limits.take_input(6000)
    with pytest.raises(ApiError) as refused:
        limits.take_input(1000)
    assert (refused.value.status, refused.value.headers["retry-after"]) == (429, "10")
    clock[0] = 10
    limits.take_input(1000)


def test_two_hundred_calls_wait_together_are_let_go_together_and_add_up() -> None:
    async def ask_all(url: str) -> list[Any]:
        async with AsyncAnthropic(api_key="key", base_url=url, max_retries=0) as client:
            return await asyncio.gather(
                *(client.messages.create(**body_of(image_block(picture(n)))) for n in range(200))
            )

    with Simulator(latency=300.0) as busy, ThreadPoolExecutor(1) as asking:
        answers = asking.submit(asyncio.run, ask_all(busy.url))
        wait_until(lambda: busy.ledger(entries=False).in_flight == 200)
        assert busy.ledger().billed == 0
        busy.let_go()
        messages = answers.result(60)
        ledger = busy.ledger()
    assert ledger.peak_in_flight == 200
    assert (ledger.requests, ledger.billed, ledger.in_flight) == (200, 200, 0)
    assert all(entry.seconds < 300 for entry in ledger.entries)
    assert ledger.tokens["input"] == sum(message.usage.input_tokens for message in messages)
    assert ledger.tokens["output"] == sum(message.usage.output_tokens for message in messages)
    assert ledger.cost_usd == sum(entry.cost_usd for entry in ledger.entries)
    assert len({entry.image for entry in ledger.entries}) == 200


def test_a_prompt_above_the_threshold_is_billed_by_the_higher_row(simulator: Simulator) -> None:
    with client_of(simulator) as client:
        usage = client.messages.create(**body_of(prompt="word " * 64_000)).usage
        us = client.messages.create(**body_of(inference_geo="us")).usage
    dear, geo = simulator.ledger().entries
    assert usage.input_tokens > 100_000
    assert dear.cost_usd == (usage.input_tokens * Decimal("0.50") + usage.output_tokens * Decimal("2.50")) / 1_000_000
    assert us.inference_geo == "us"
    plain = (us.input_tokens * Decimal("0.10") + us.output_tokens * Decimal("0.50")) / 1_000_000
    assert geo.cost_usd == plain * Decimal("1.1")


def test_totals_are_exact_without_entries_and_under_threads() -> None:
    def ask(number: int) -> None:
        post(plain, body_of(image_block(picture(number % 5))))

    with Simulator(keep_entries=False, faults="drop_paid=0.0,429=0.2") as plain, ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(60)))
        ledger = plain.ledger()
    assert ledger.entries == ()
    assert ledger.requests == 60
    assert sum(ledger.outcomes.values()) == 60
    assert ledger.billed == ledger.outcomes["ok"] < 60


def test_the_ledger_over_http_holds_every_digit_and_no_image(simulator: Simulator) -> None:
    post(simulator, body_of(prompt="A very particular question"))
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=10)
    pages = {}
    for path in ("/simulator/ledger", "/simulator/requests?limit=5", "/simulator/health"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.headers["visionflow-simulated"] == "true"
        pages[path] = response.read().decode()
    connection.close()
    ledger = json.loads(pages["/simulator/ledger"])
    assert Decimal(ledger["cost_usd"]) == simulator.ledger().cost_usd == Decimal(ledger["entries"][0]["cost_usd"])
    asked = json.loads(pages["/simulator/requests?limit=5"])
    assert asked[0]["prompt"] == "A very particular question"
    assert asked[0]["images"][0]["sha256"] == ledger["entries"][0]["images"][0]
    assert base64.b64encode(picture()).decode() not in "".join(pages.values())


def test_faults_can_be_changed_over_http(simulator: Simulator) -> None:
    assert post(simulator, {"faults": "529=1"}, "/simulator/faults")[0] == 200
    assert post(simulator, body_of())[0] == 529
    status, _, answer = post(simulator, {"faults": "what=1"}, "/simulator/faults")
    assert (status, "unknown fault" in answer["error"]["message"]) == (400, True)
    assert post(simulator, body_of())[0] == 529, "a mistake changes nothing"
    assert post(simulator, {"faults": ""}, "/simulator/faults")[0] == 200
    assert post(simulator, {}, "/simulator/reset")[0] == 200
    assert simulator.ledger().requests == 0


def test_an_upload_that_breaks_off_is_in_the_ledger(simulator: Simulator) -> None:
    address = urlsplit(simulator.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        wait_until(lambda: simulator.ledger().in_flight == 1)
    wait_until(lambda: simulator.ledger().in_flight == 0)
    assert [entry.outcome for entry in simulator.ledger().entries] == ["client_gone"]
