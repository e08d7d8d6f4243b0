"""What is asked: the request as it is sent, and what makes two questions the same."""

import asyncio
import base64
from dataclasses import replace

import pytest

from config.endpoints import endpoint
from tasks.asking.client import make_client
from tasks.asking.question import Question, answer_key, request
from tasks.simulator import Simulator
from tests.asking import at, prepared, question
from tests.simulator_requests import strict

SCHEMA = strict(label={"type": "string"})
LONG = "You read receipts, exactly and completely. " * 80


def test_the_image_comes_first_then_the_prompt() -> None:
    image = prepared(3)
    sent = request(question("What is it?"), image)
    (message,) = sent["messages"]
    first, second = message["content"]
    assert first["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(image.data).decode(),
    }
    assert second == {"type": "text", "text": "What is it?"}
    assert "system" not in sent and sent["output_config"] == {"effort": "low"}


def test_a_schema_goes_where_the_endpoint_understands_it() -> None:
    asked = question(schema=SCHEMA)
    assert request(asked, prepared())["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
    in_prompt = request(replace(asked, schema_in_prompt=True, effort=None), prepared())
    assert "output_config" not in in_prompt
    assert '"label"' in in_prompt["messages"][0]["content"][1]["text"]


def test_a_model_that_thinks_gets_room_for_it_and_never_more_than_it_may_have() -> None:
    assert question(room=1000, effort="low").max_tokens == 1000 + 2048
    assert question(room=1000, model="claude-haiku-4-5").max_tokens == 1000
    assert question(room=64_000).max_tokens == 64_000


def test_more_room_is_asked_for_until_the_model_allows_no_more() -> None:
    asked, rooms = question(room=1000), []
    while (roomier := asked.roomier()) is not None:
        assert roomier.max_tokens > asked.max_tokens
        asked = roomier
        rooms.append(asked.room)
    assert rooms == [4000, 16_000, 64_000]


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "anthropic"},
        {"model": "claude-sonnet-5-5"},
        {"prompt": "Another?"},
        {"system": "Be brief."},
        {"schema": SCHEMA},
        {"schema_in_prompt": True},
        {"effort": "high"},
    ],
)
def test_whatever_changes_the_answer_changes_its_key(change: dict[str, object]) -> None:
    asked = question()
    assert answer_key(replace(asked, **change), "a" * 64) != answer_key(asked, "a" * 64)  # type: ignore[arg-type]


def test_the_key_depends_on_the_bytes_and_not_on_the_room() -> None:
    asked = question()
    assert answer_key(asked, "a" * 64) != answer_key(asked, "b" * 64)
    assert answer_key(replace(asked, room=9999), "a" * 64) == answer_key(asked, "a" * 64)


def test_text_bytes_are_never_fewer_than_what_is_sent() -> None:
    asked = question("Größe?", system="Sei genau.", schema=SCHEMA)
    assert asked.text_bytes >= len("Größe?Sei genau.".encode())


def test_a_long_system_prompt_gets_one_breakpoint_where_the_endpoint_caches() -> None:
    asked = question(system=LONG)
    assert asked.cacheable and asked.cache_notice is None
    (block,) = request(asked, prepared(), caching=True)["system"]
    assert block == {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    assert request(asked, prepared())["system"] == LONG
    assert endpoint("anthropic").caching and not endpoint("holysheep").caching


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (question(), None),
        (question(system="Be brief."), "caches from 512 on"),
        (question(system=LONG, model="claude-haiku-4-5"), "caches from 4,096 on"),
        (question(system=LONG, model="claude-fable-5-2"), "is not known"),
    ],
)
def test_a_system_prompt_that_is_not_cached_says_why(asked: Question, said: str | None) -> None:
    assert not asked.cacheable
    assert asked.cache_notice == said if said is None else said in str(asked.cache_notice)


@pytest.mark.parametrize("model", ["claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-4-6"])
def test_the_endpoint_takes_every_form_of_the_request(model: str) -> None:
    forms = [question(model=model), question(model=model, schema=SCHEMA), question(model=model, system=LONG)]

    async def send(simulator: Simulator) -> None:
        async with make_client(at(simulator.url), concurrency=1, timeout=5) as client:
            for asked in forms:
                for caching in (False, True):
                    message = await client.messages.create(**request(asked, prepared(), caching=caching))
                    assert message.stop_reason == "end_turn"

    with Simulator() as simulator:
        asyncio.run(send(simulator))
