"""What a failed call means: decided from real responses of a real socket, by status and code, never by words."""

import asyncio
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from anthropic import AsyncAnthropic
from httpx2 import Headers

from tasks.asking.client import make_client
from tasks.asking.failures import Failure, Scope, classify, explained, retry_after
from tasks.asking.question import request
from tasks.asking.reply import read_reply
from tasks.asking.secrets import Secrets
from tasks.simulator import Simulator
from tests.asking import MODEL, at, prepared, question

NONE = Secrets("")
MEANINGS = {
    "400": (Scope.REQUEST, "rejected", "no"),
    "413": (Scope.REQUEST, "rejected", "no"),
    "401": (Scope.RUN, "failed", "no"),
    "402": (Scope.RUN, "failed", "no"),
    "403": (Scope.RUN, "failed", "no"),
    "404": (Scope.RUN, "failed", "no"),
    "spend": (Scope.RUN, "throttled", "no"),
    "spend_own": (Scope.RUN, "failed", "no"),
    "balance": (Scope.RUN, "failed", "no"),
    "429": (Scope.THROTTLE, "throttled", "no"),
    "ramp": (Scope.THROTTLE, "throttled", "no"),
    "529": (Scope.THROTTLE, "overloaded", "no"),
    "408": (Scope.MOMENT, "failed", "maybe"),
    "409": (Scope.MOMENT, "failed", "no"),
    "500": (Scope.MOMENT, "failed", "no"),
    "502": (Scope.MOMENT, "failed", "no"),
    "503": (Scope.MOMENT, "failed", "no"),
    "504": (Scope.MOMENT, "failed", "maybe"),
    "html": (Scope.MOMENT, "failed", "no"),
    "drop_paid": (Scope.MOMENT, "failed", "maybe"),
    "drop_unpaid": (Scope.MOMENT, "failed", "maybe"),
    "hang": (Scope.MOMENT, "failed", "maybe"),
    "truncate": (Scope.MOMENT, "failed", "maybe"),
    "html200": (Scope.ANSWER, "failed", "maybe"),
    "foreign": (Scope.ANSWER, "failed", "maybe"),
}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def failure_of(url: str, *, timeout: float = 5.0) -> Failure:
    """Make one call, which has to fail."""

    async def call(client: AsyncAnthropic) -> Failure:
        async with client:
            try:
                raw = await client.messages.with_raw_response.create(**request(question(), prepared()))
                read_reply(await raw.read(), base_url=url, max_tokens=1024, secrets=NONE)
            except Exception as error:  # noqa: BLE001
                return classify(error, NONE)
        raise AssertionError("the call did not fail")

    return asyncio.run(call(make_client(at(url), concurrency=1, timeout=timeout)))


@pytest.mark.parametrize("fault", MEANINGS)
def test_each_failure_is_understood(simulator: Simulator, fault: str) -> None:
    simulator.set_faults(script=[fault])
    failure = failure_of(simulator.url, timeout=0.3 if fault == "hang" else 5.0)
    assert (failure.scope, failure.outcome, failure.paid) == MEANINGS[fault]
    assert failure.message and "\n" not in failure.message
    assert len(pickle.dumps(failure)) < 1500, "neither the request nor the image is carried along"


def test_a_connection_that_was_never_made_is_not_paid() -> None:
    with Simulator() as gone:
        url = gone.url
    failure = failure_of(url)
    assert (failure.scope, failure.paid, failure.error_type) == (Scope.MOMENT, "no", "connection")


def test_the_request_id_and_retry_after_are_kept(simulator: Simulator) -> None:
    simulator.set_faults(script=["429:7"])
    failure = failure_of(simulator.url)
    assert failure.retry_after == 7 and failure.request_id is not None
    assert failure.request_id == simulator.ledger().entries[-1].request_id


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "4294967"}, 300.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms_and_never_longer_than_five_minutes(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(Headers(headers)) == seconds


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    waited = retry_after(Headers({"retry-after": date}))
    assert waited is not None and 28 <= waited <= 30


def test_a_failure_that_nobody_foresaw_is_perhaps_paid_and_names_its_place_only() -> None:
    try:
        raise RuntimeError("sk-ant-secret")
    except RuntimeError as error:
        failure = classify(error, NONE)
    assert (failure.scope, failure.paid) == (Scope.ANSWER, "maybe")
    assert "RuntimeError in test_failures.py" in failure.message
    assert "secret" not in repr(failure)


def test_keys_and_image_data_are_taken_out_of_messages() -> None:
    echo = f"invalid key sk-123 and data {'iVBORw0KGgo' * 20} in request"
    assert Secrets("x").out_of("Try it again, later.") == "Try it again, later.", "nothing between the letters"
    assert Secrets("sk-123").out_of(echo) == "invalid key ... and data ... in request"
    assert NONE.out_of("plain") == "plain"


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [("401", "wants it sent"), ("402", "billing"), ("403", "may do"), ("404", f"--model {MODEL}"), ("spend", "limits")],
)
def test_a_failure_that_stops_the_run_says_what_to_do(simulator: Simulator, fault: str, remedy: str) -> None:
    simulator.set_faults(script=[fault])
    message = explained(failure_of(simulator.url), MODEL, at(simulator.url))
    assert simulator.url in message and remedy in message and "\n" not in message
