"""The form of a deployment: what is needed first, the rest folded, wrong values refused; and flat jobs as ever."""

from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import is_valid_schema, validate

from config.form import FIRST, GROUPS, flat
from config.job import Job
from config.presets import preset_names
from flows.analyze_images import analyze_images
from tests.own_tables import OwnTables, own_tables

__all__ = ["own_tables"]  # a fixture

SCHEMA: Any = analyze_images.parameters.model_dump_for_openapi()
FIELDS = [field.alias or name for name, field in Job.model_fields.items()]


def errors_of(job: dict[str, Any]) -> list[str]:
    """What Prefect's server says of the form, both when it is looked at and when it is submitted."""
    found = validate({"source": "in", "output": "out", "job": job}, SCHEMA)
    return [f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found]


def opened(group: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = group["anyOf"][1]["properties"]
    return inner


def test_what_is_needed_comes_first_and_every_field_stands_in_one_place() -> None:
    is_valid_schema(SCHEMA)
    assert list(SCHEMA["properties"]) == ["source", "output", "job"] and SCHEMA["properties"]["job"]["default"] == {}
    job = SCHEMA["definitions"]["Job"]["properties"]
    assert tuple(job)[: len(FIRST)] == FIRST
    assert [one["position"] for one in job.values()] == list(range(len(job)))
    groups = {name: one for name, one in job.items() if name not in FIRST}
    assert groups.keys() <= {group.name for group in GROUPS} and not groups.keys() & set(FIELDS)
    for group in groups.values():
        assert group["default"] is None and group["anyOf"][0]["type"] == "null", "folded"
    placed = [*FIRST, *(name for group in groups.values() for name in opened(group))]
    assert sorted(placed) == sorted(FIELDS)
    named = {name for group in GROUPS for name in group.fields}
    assert set(FIELDS) <= named | set(FIRST), "a new field needs its group"


def test_choices_are_offered_and_ones_own_are_possible(own_tables: OwnTables) -> None:
    own_tables(presets='[stamps]\nmax_edge = 800\nquality = 80\nprompt = "?"\nmax_tokens = 100\n')
    job = Job.model_json_schema()["properties"]
    assert job["preset"]["anyOf"][0]["enum"] == preset_names() and "stamps" in preset_names()
    assert "receipt" in job["schema"]["anyOf"][1]["enum"]
    assert "claude-haiku-5-5" in opened(job["asking"])["model"]["anyOf"][0]["enum"]
    assert opened(job["access"])["endpoint"]["anyOf"][1]["enum"][0] == "anthropic"
    theirs = {"preset": "of the worker", "schema": "its own", "access": {"endpoint": "its own"}}
    assert errors_of({**theirs, "asking": {"model": "claude-next"}}) == [], "the run says whether there are such"


WRONG = [
    ({"pace": {"concurrency": 5000}}, "job.pace.concurrency: 5000 is greater than the maximum of 1000"),
    ({"images": {"limit": 1.5}}, "job.images.limit: 1.5 is not of type 'integer'"),
    ({"pace": {"timeout": 0}}, "job.pace.timeout: 0 is less than or equal to the minimum of 0"),
    ({"results": {"max_failed": 1.5}}, "job.results.max_failed: 1.5 is greater than the maximum of 1"),
    ({"access": {"key_block": "sk-ANT_key"}}, "job.access.key_block: 'sk-ANT_key' does not match"),
    ({"max_cost": -1}, "job.max_cost: -1 is less than the minimum of 0"),
    ({"schema": 5}, "job.schema: 5 is not valid"),
    ({"asking": {"effort": "huge"}}, "job.asking: "),
    ({"api_key": "sk-ANT_key"}, "job: 'api_key' is not one of ['access', 'answer_schema', "),
    (
        {"access": {"api_key": "sk-ANT_key"}},
        "job.access: 'api_key' is not one of ['endpoint', 'key_block', 'storage_block']",
    ),
]


@pytest.mark.parametrize(("job", "said"), WRONG, ids=[str(job) for job, _ in WRONG])
def test_the_form_refuses_what_cannot_be(job: dict[str, Any], said: str) -> None:
    (error,) = errors_of(job)
    assert error.startswith(said)


def test_a_group_is_the_same_as_its_fields_and_counts_over_them() -> None:
    form = {"preset": "ocr", "concurrency": 5, "pace": {"concurrency": 9, "rps": None}, "money": None}
    assert Job.model_validate(form) == Job(concurrency=9)
    assert flat(Job(concurrency=3)) == Job(concurrency=3)
    assert flat({"results": "text"}) == {"results": "text"}, "for pydantic to refuse"


STORED: list[dict[str, Any]] = [
    {},
    {"preset": "ocr"},
    {"name": "nightly", "preset": "ocr", "schema": "document", "max_cost": "5"},
    {"max_cost": 5, "concurrency": 10, "labels": ["cat", "dog"], "cny_per_usd": "7.02"},
    Job(name="all", answer_schema="receipt", max_cost=2).model_dump(mode="json", by_alias=True),
]


@pytest.mark.parametrize("job", STORED, ids=str)
def test_parameters_that_deployments_hold_are_accepted_flat_as_they_are(job: dict[str, Any]) -> None:
    assert errors_of(job) == []
    Job.model_validate(job)
