"""The simulator's Message Batches, as the SDK sees them and where the SDK would hide things."""

from decimal import Decimal
from typing import Any

import anthropic
import pytest

from tasks.simulator import Simulator
from tasks.simulator.batches import parse_batch_faults
from tests.simulator_requests import body_of, client_of, image_block, picture, post, wait_until

PATH = "/v1/messages/batches"


def requests_of(count: int, **parameters: Any) -> list[Any]:
    return [
        {"custom_id": f"id-{number}", "params": body_of(image_block(picture(number)), **parameters)}
        for number in range(count)
    ]


def ended(client: anthropic.Anthropic, batch_id: str) -> Any:
    wait_until(lambda: client.messages.batches.retrieve(batch_id).processing_status == "ended")
    return client.messages.batches.retrieve(batch_id)


def test_a_batch_is_answered_at_half_the_price_in_any_order(simulator: Simulator) -> None:
    client = client_of(simulator)
    online = client.messages.create(**requests_of(1)[0]["params"])
    whole = simulator.ledger().cost_usd
    simulator.change(batch_latency=0.3)
    made = client.messages.batches.create(requests=requests_of(30))
    assert (made.processing_status, made.request_counts.processing, made.results_url) == ("in_progress", 30, None)
    batch = ended(client, made.id)
    assert (batch.request_counts.succeeded, batch.request_counts.processing) == (30, 0)
    results = list(client.messages.batches.results(made.id))
    ids = [result.custom_id for result in results]
    assert sorted(ids) == sorted(f"id-{number}" for number in range(30))
    assert ids != [f"id-{number}" for number in range(30)]
    (first,) = [result.result for result in results if result.custom_id == "id-0"]
    assert first.type == "succeeded"
    assert first.message.content[0] == online.content[0]
    assert first.message.usage.service_tier == "batch"
    ledger = simulator.ledger()
    assert (ledger.requests, ledger.batches, ledger.batch_requests, ledger.billed) == (1, 1, 30, 31)
    (same,) = [entry for entry in ledger.entries[1:] if entry.image == ledger.entries[0].image]
    assert same.cost_usd == whole / 2
    assert {entry.batch for entry in ledger.entries[1:]} == {made.id}


def test_a_batch_that_is_let_go_ends_at_once(simulator: Simulator) -> None:
    simulator.change(batch_latency=3000.0)
    client = client_of(simulator)
    made = client.messages.batches.create(requests=requests_of(3))
    assert client.messages.batches.retrieve(made.id).processing_status == "in_progress"
    simulator.let_go()
    assert ended(client, made.id).request_counts.succeeded == 3


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "at least one"),
        ([{"custom_id": "a b", "params": {}}], "custom_id: String should match pattern"),
        ([{"custom_id": "x" * 65, "params": {}}], "custom_id: String should match pattern"),
        ([{"custom_id": "a", "params": {}}, {"custom_id": "a", "params": {}}], "not unique"),
        ([{"custom_id": "a"}], "params are required"),
    ],
)
def test_what_the_api_refuses_of_a_batch_is_refused_at_once(simulator: Simulator, requests: Any, words: str) -> None:
    status, _, body = post(simulator, {"requests": requests}, PATH)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert words in body["error"]["message"]
    assert simulator.ledger().batches == 0


def test_a_batch_that_is_too_large_is_a_413(simulator: Simulator) -> None:
    many = [{"custom_id": str(number), "params": 0} for number in range(100_001)]
    assert post(simulator, {"requests": many}, PATH)[0] == 413
    status, _, body = post(simulator, b"", PATH, content_length=str(256_000_001))
    assert (status, body["error"]["type"]) == (413, "request_too_large")


def test_parameters_are_looked_at_only_when_a_row_runs(simulator: Simulator) -> None:
    client = client_of(simulator)
    requests = [*requests_of(1, stream=False), {"custom_id": "good", "params": requests_of(2)[1]["params"]}]
    made = client.messages.batches.create(requests=requests)
    assert ended(client, made.id).request_counts.errored == 1
    results = {result.custom_id: result.result for result in client.messages.batches.results(made.id)}
    assert results["good"].type == "succeeded"
    assert results["id-0"].type == "errored"
    assert results["id-0"].error.error.type == "invalid_request_error"
    assert results["id-0"].error.request_id


@pytest.mark.parametrize(
    ("fault", "kind", "error"),
    [
        ("529", "errored", "overloaded_error"),
        ("500", "errored", "api_error"),
        ("400_image", "errored", "invalid_request_error"),
        ("balance", "errored", "invalid_request_error"),
        ("expired", "expired", None),
    ],
)
def test_rows_fail_as_told_and_are_not_billed(simulator: Simulator, fault: str, kind: str, error: str | None) -> None:
    simulator.set_faults(f"{fault}=1")
    client = client_of(simulator)
    made = client.messages.batches.create(requests=requests_of(3))
    ended(client, made.id)
    results: list[Any] = [result.result for result in client.messages.batches.results(made.id)]
    assert [result.type for result in results] == [kind] * 3
    if error:
        assert {result.error.error.type for result in results} == {error}
    assert simulator.ledger().cost_usd == Decimal(0)


def test_a_cancelled_batch_keeps_and_bills_what_was_finished(simulator: Simulator) -> None:
    simulator.change(batch_latency=20.0, batch_faults="slow_cancel=0.3")
    client = client_of(simulator)
    made = client.messages.batches.create(requests=requests_of(20))
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        client.messages.batches.delete(made.id)
    wait_until(lambda: simulator.ledger().billed > 0)
    assert client.messages.batches.cancel(made.id).processing_status == "canceling"
    counts = ended(client, made.id).request_counts
    assert counts.succeeded == simulator.ledger().billed > 0
    assert counts.canceled == 20 - counts.succeeded
    assert client.messages.batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(made.id)


def test_a_lost_reply_leaves_a_batch_that_is_listed_and_late(simulator: Simulator) -> None:
    simulator.change(batch_faults="lost=1,unmade=0,late=60")
    client = client_of(simulator)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests_of(2))
    (orphan,) = client.messages.batches.list().data
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(orphan.id)
    wait_until(lambda: client.messages.batches.list().data[0].processing_status == "ended")
    simulator.change(batch_faults="lost=1,late=0.1")
    wait_until(lambda: post_free(simulator, orphan.id) == 200)
    simulator.change(batch_faults="unmade=2")
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.create(requests=requests_of(2))
    assert simulator.ledger().batches == 1


def post_free(simulator: Simulator, batch_id: str) -> int:
    try:
        client_of(simulator).messages.batches.retrieve(batch_id)
    except anthropic.NotFoundError:
        return 404
    return 200


def test_results_may_lie_elsewhere_or_be_gone(simulator: Simulator) -> None:
    simulator.change(batch_faults="elsewhere")
    client = client_of(simulator)
    batch = ended(client, client.messages.batches.create(requests=requests_of(1)).id)
    assert batch.results_url.startswith("http://redirected.invalid/")
    simulator.change(batch_faults="archived")
    batch = ended(client, client.messages.batches.create(requests=requests_of(1)).id)
    assert batch.archived_at is not None
    with pytest.raises(anthropic.AnthropicError):
        list(client.messages.batches.results(batch.id))


def test_the_list_has_pages_with_the_newest_first(simulator: Simulator) -> None:
    client = client_of(simulator)
    made = [client.messages.batches.create(requests=requests_of(1)).id for _ in range(5)]
    page = client.messages.batches.list(limit=2)
    assert [batch.id for batch in page.data] == made[:2:-1]
    assert page.has_more
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == made[::-1]
    assert [batch.id for batch in client.messages.batches.list(before_id=made[2], limit=1).data] == [made[3]]


def test_a_fault_that_nobody_knows_and_an_endpoint_without_batches() -> None:
    with pytest.raises(ValueError, match="unknown batch fault 'sleepy'"):
        parse_batch_faults("sleepy=1")
    with Simulator(batches=False) as simulator, pytest.raises(anthropic.NotFoundError):
        client_of(simulator).messages.batches.list(limit=1)
