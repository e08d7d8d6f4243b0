"""The body that is sent is the JSON that the SDK would have made of the same parameters."""

import json
from dataclasses import replace

import pytest

from tasks.asking.question import PLACE, Bodies, Question, request
from tasks.schemas import load_schema
from tests.asking import prepared, question

QUESTIONS = [
    question(),
    question('Tổng cộng "bao nhiêu"?\n\\ 多少'),
    question(f"A prompt that holds {PLACE} itself"),
    question("With a schema", schema=load_schema("receipt").api, system="Be exact. " * 400),
    question("Schema in the prompt", schema=load_schema("receipt").api, schema_in_prompt=True),
]


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: asked.prompt[:12])
@pytest.mark.parametrize("caching", [False, True])
def test_the_body_says_what_the_parameters_say(asked: Question, caching: bool) -> None:
    bodies = Bodies(caching=caching)
    for image in (prepared(1), prepared(2), replace(prepared(3), media_type="image/jpeg")):
        assert json.loads(bodies.body(asked, image)) == request(asked, image, caching=caching)


def test_more_room_for_an_answer_is_another_body() -> None:
    bodies, asked = Bodies(caching=False), question()
    roomier = asked.roomier()
    assert roomier is not None
    sent = [json.loads(bodies.body(one, prepared()))["max_tokens"] for one in (asked, roomier)]
    assert sent == [asked.max_tokens, roomier.max_tokens]
    assert sent[0] < sent[1]
