"""Failures on purpose: what the SDK makes of them, and who paid."""

import json
import re
import time
from typing import Any

import anthropic
import pytest

from tasks.simulator import Simulator
from tasks.simulator.faults import FaultPlan, parse_faults
from tests.simulator_requests import (
    body_of,
    client_of,
    image_block,
    picture,
    post,
    strict,
    text_of,
    wait_until,
    with_schema,
)

FAULTS_SEEN: dict[str, tuple[type[Exception], bool]] = {
    "400": (anthropic.BadRequestError, False),
    "401": (anthropic.AuthenticationError, False),
    "402": (anthropic.PaymentRequiredError, False),
    "403": (anthropic.PermissionDeniedError, False),
    "404": (anthropic.NotFoundError, False),
    "408": (anthropic.RequestTimeoutError, False),
    "409": (anthropic.ConflictError, False),
    "413": (anthropic.ContentTooLargeError, False),
    "429": (anthropic.RateLimitError, False),
    "500": (anthropic.InternalServerError, False),
    "502": (anthropic.InternalServerError, False),
    "503": (anthropic.ServiceUnavailableError, False),
    "504": (anthropic.GatewayTimeoutError, False),
    "529": (anthropic.OverloadedError, False),
    "spend": (anthropic.EnforcedSpendLimitReachedError, False),
    "spend_own": (anthropic.BadRequestError, False),
    "balance": (anthropic.BadRequestError, False),
    "ramp": (anthropic.RampLimitExceededError, False),
    "html": (anthropic.InternalServerError, False),
    "drop_unpaid": (anthropic.APIConnectionError, False),
    "drop_paid": (anthropic.APIConnectionError, True),
    "hang:0.2": (anthropic.APIConnectionError, False),
    "truncate": (json.JSONDecodeError, True),
}


@pytest.mark.parametrize("name", FAULTS_SEEN)
def test_a_fault_is_what_the_sdk_knows_it_as_and_the_ledger_tells_who_paid(simulator: Simulator, name: str) -> None:
    error, billed = FAULTS_SEEN[name]
    simulator.set_faults(script=[name, "ok"])
    with client_of(simulator) as client:
        with pytest.raises(error):
            client.messages.create(**body_of())
        assert client.messages.create(**body_of()).stop_reason == "end_turn"
    failed, answered = simulator.ledger().entries
    assert (failed.outcome, answered.outcome) == (name.partition(":")[0], "ok")
    assert failed.billed is billed
    assert (failed.cost_usd > 0) is billed
    assert failed.http_status == getattr(error, "status_code", failed.http_status)


def test_faults_under_a_200(simulator: Simulator) -> None:
    simulator.set_faults(script=["html200", "foreign", "refusal", "refusal_empty", "max_tokens", "garbage", "slow:0.3"])
    schema = with_schema(strict(text={"type": "string"}))
    with client_of(simulator) as client:
        page: Any = client.messages.create(**body_of(**schema))
        foreign, refused, refused_empty, cut, garbage = (client.messages.create(**body_of(**schema)) for _ in range(5))
        started = time.monotonic()
        client.messages.create(**body_of(**schema))
    assert time.monotonic() - started >= 0.3
    assert isinstance(page, str)
    assert foreign.content is None
    assert (refused.stop_reason, refused_empty.stop_reason) == ("refusal", "refusal")
    assert refused_empty.content == []
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 4000)
    for message in (cut, garbage):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text_of(message))
    assert [entry.billed for entry in simulator.ledger().entries] == [False, False, True, False, True, True, True]


def test_retry_after_is_sent(simulator: Simulator) -> None:
    simulator.set_faults(script=["429:1.5", "429", "529", "529:30", "spend"])
    headers = [post(simulator, body_of())[1].get("retry-after") for _ in range(5)]
    assert headers == ["1.5", "1", None, "30", None]


def test_a_hanging_request_ends_when_the_client_gives_up(simulator: Simulator) -> None:
    simulator.set_faults(script=["hang"])
    with client_of(simulator, timeout=0.3) as client, pytest.raises(anthropic.APITimeoutError):
        client.messages.create(**body_of())
    wait_until(lambda: simulator.ledger().in_flight == 0)
    assert [entry.outcome for entry in simulator.ledger().entries] == ["hang"]


def test_a_script_can_name_images() -> None:
    first, second = picture(1), picture(2)
    with Simulator() as scripted, client_of(scripted) as client:
        client.messages.create(**body_of(image_block(first)))
        digest = scripted.ledger().entries[0].images[0]
        scripted.set_faults(script={digest[:10]: ["529", "ok"]})
        client.messages.create(**body_of(image_block(second)))
        with pytest.raises(anthropic.OverloadedError):
            client.messages.create(**body_of(image_block(first)))
        client.messages.create(**body_of(image_block(first)))


def test_chance_is_the_same_for_the_same_image_in_whatever_order() -> None:
    faults = "429=0.3:2,529=0.05,drop=0.05"
    images = [f"{number:064x}" for number in range(4000)]
    forwards, backwards = FaultPlan(faults, seed=1), FaultPlan(faults, seed=1)
    seen = {image: forwards.next([image]).name for image in images}
    assert seen == {image: backwards.next([image]).name for image in reversed(images)}
    names = list(seen.values())
    assert names.count("429") / 4000 == pytest.approx(0.3, abs=0.03)
    assert (names.count("drop_paid") + names.count("drop_unpaid")) / 4000 == pytest.approx(0.05, abs=0.015)
    assert 0.2 < sum(forwards.next([image]).name == "429" for image in images) / 4000 < 0.4
    another = FaultPlan(faults, seed=2)
    assert seen != {image: another.next([image]).name for image in images}


@pytest.mark.parametrize("text", ["429", "429=2", "explode=0.1", "429=0.6,529=0.6", "429=x", "429=0.1:-1"])
def test_a_fault_string_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text.partition("=")[0])):
        parse_faults(text)
