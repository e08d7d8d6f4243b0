"""The plan: every name resolved and every mistake found before the first paid call."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from config.job import Job
from tasks.errors import EndpointError, OutputError, PriceError, SchemaError, SourceError, UsageError, VisionflowError
from tasks.orchestration.assembling import engine_settings
from tasks.planning.plan import Plan, make_plan, new_run_id
from tasks.simulator import Simulator
from tests.http_servers import Handler, serving
from tests.runs import draw

KEY = "sk-ant-api03-neverprinted"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw(tmp_path / "my images", 2)


def plan(images: Path, **job: Any) -> Plan:
    return make_plan(str(images), str(images.parent / "out"), Job(**job))


def test_a_plan_resolves_names_and_costs_nothing(simulator: Simulator, images: Path) -> None:
    made = plan(images)
    assert (made.name, made.preset.name, made.schema) == ("my-images", "ocr", None)
    assert [image.name for image in made.listing.images] == ["p000.jpg", "p001.jpg"]
    assert made.simulated and made.model_known and made.endpoint.name == "simulator"
    assert made.notices == ()
    assert (made.rules.max_edge, made.rules.quality, made.rules.model_edge) == (2048, 95, 2576)
    assert made.question.prompt == made.preset.prompt
    assert list((images.parent / "out").iterdir()) == [], "the test file of the check is gone"
    assert simulator.ledger().requests == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_gateway_that_repeats_the_key_it_refuses_does_not_get_it_printed(
    images: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with answering(status, {"error": {"type": "wrong", "message": f"Incorrect API key: {KEY}"}}) as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        with pytest.raises(EndpointError, match=r"Incorrect API key: \.\.\.") as refused:
            plan(images)
    assert KEY not in str(refused.value)


def test_a_wrong_key_is_found_before_a_long_listing(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="ANTHROPIC_API_KEY is empty"):
        make_plan(str(images / "nothing here"), str(images.parent / "out"), Job())


@contextmanager
def answering(status: int, body: dict[str, Any]) -> Iterator[str]:
    """An endpoint that answers every request like this."""

    class Answering(Handler):
        def do_GET(self) -> None:
            self.answer(status, json.dumps(body).encode())

    with serving(Answering) as url:
        yield url


def test_run_ids_sort_by_time_and_differ() -> None:
    assert re.fullmatch(r"\d{8}T\d{6}Z-\d{3}-[0-9a-f]{4}", new_run_id())
    assert len({new_run_id() for _ in range(50)}) > 45
    retried = []
    for _ in range(5):  # of one flow run, within a second
        retried.append(new_run_id("the same"))
        time.sleep(0.002)
    assert retried == sorted(set(retried))


def test_the_fallback_chain_is_prompt_fallback_prompts_fallback_models(simulator: Simulator, images: Path) -> None:
    made = plan(images, prompt="What?", fallback_prompt=["Please?", "Now!"], fallback_model=["claude-sonnet-5-5"])
    assert [(step.number, step.question.model, step.question.prompt) for step in made.steps] == [
        (0, "claude-haiku-5-5", "What?"),
        (1, "claude-haiku-5-5", "Please?"),
        (2, "claude-haiku-5-5", "Now!"),
        (3, "claude-sonnet-5-5", "What?"),
    ]


def test_a_schema_comes_from_labels_the_job_or_the_preset(simulator: Simulator, images: Path) -> None:
    labels = plan(images, labels=["cat", "dog"], answer_schema="receipt").schema
    receipt = plan(images, answer_schema="receipt").schema
    assert labels is not None and "cat" in str(labels.api)
    assert receipt is not None and "company" in str(receipt.api)
    assert labels.digest != receipt.digest


def test_finished_chunks_are_of_one_question_and_one_preparation(simulator: Simulator, images: Path) -> None:
    cosmetic: list[dict[str, Any]] = [{}, {"concurrency": 3}, {"max_cost": "9"}, {"name": "x"}]
    same = {plan(images, **job).chunk_prefix for job in cosmetic}
    assert len(same) == 1
    others: list[dict[str, Any]] = [
        {"prompt": "Else?"},
        {"system": "Be brief."},
        {"model": "claude-sonnet-5-5"},
        {"preset": "classification"},
        {"answer_schema": "receipt"},
        {"fallback_prompt": ["Please?"]},
        {"max_tokens": 17},
        {"effort": "high"},
    ]
    prefixes = {plan(images, **job).chunk_prefix for job in others}
    assert len(prefixes | same) == len(others) + 1


def test_one_call_goes_first_where_the_model_could_not_be_checked(
    simulator: Simulator, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engine_settings(plan(images)).one_first
    assert engine_settings(plan(images, answer_schema="receipt")).one_first, "a schema is compiled once"
    gateway = plan(images, endpoint="holysheep", model="claude-sonnet-4")
    assert not gateway.model_known and engine_settings(gateway).one_first
    assert (gateway.endpoint.identity, str(gateway.cny_per_usd)) == ("holysheep", "1")
    assert str(plan(images, cny_per_usd="6.5").cny_per_usd) == "6.5"


def test_a_needless_v1_is_taken_off_and_said(simulator: Simulator, images: Path) -> None:
    made = plan(images, endpoint=f"{simulator.url}/v1/")
    assert made.endpoint.base_url == simulator.url
    assert made.notices == (f"Took /v1 off the endpoint {simulator.url}/v1/: the client adds /v1/messages itself.",)


@pytest.mark.parametrize(
    ("job", "error", "says"),
    [
        ({"preset": "ocrr"}, UsageError, "Take one of: ocr"),
        ({"no_wait": True}, UsageError, "--no-wait is for --mode batch"),
        ({"deadline": 2}, UsageError, "--deadline is for --mode auto"),
        ({"mode": "auto"}, UsageError, "needs --deadline HOURS"),
        ({"endpoint": "antropic"}, EndpointError, "Take one of: anthropic"),
        ({"model": "claude-x"}, PriceError, "visionflow prices"),
        ({"model": "claude-x", "unpriced": "allow"}, EndpointError, "does not know the model 'claude-x'"),
        ({"fallback_model": ["claude-x"]}, PriceError, "claude-x"),
        ({"answer_schema": "nothing.json"}, SchemaError, "nothing.json"),
        ({"include": ["*.gif"]}, SourceError, "--include"),
    ],
)
def test_what_would_fail_later_fails_now(
    simulator: Simulator, images: Path, job: dict[str, Any], error: type[VisionflowError], says: str
) -> None:
    with pytest.raises(error) as caught:
        plan(images, **job)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert simulator.ledger().requests == 0


def test_a_retired_model_is_refused_before_anybody_is_asked(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    with pytest.raises(EndpointError, match=r"retired on 2026-06-15. Take another --model"):
        plan(images, endpoint="anthropic", model="claude-sonnet-4")


def test_the_output_is_tried_before_the_source_is_listed(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        make_plan(str(tmp_path / "no such source"), str(tmp_path / "file" / "out"), Job())


def test_a_key_is_never_part_of_a_plan(simulator: Simulator, images: Path) -> None:
    assert "sk-ant-of-a-test" not in repr(plan(images))


def test_an_endpoint_without_batches_stops_before_anything_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
    nowhere, output = str(tmp_path / "nowhere"), str(tmp_path / "out")
    with Simulator(batches=False) as without, pytest.raises(EndpointError, match="has no Message Batches"):
        make_plan(nowhere, output, Job(mode="batch", endpoint=without.url))
    with pytest.raises(PriceError, match="in Message Batches at holysheep"):
        make_plan(nowhere, output, Job(mode="batch", endpoint="holysheep", model="claude-sonnet-4"))
