"""Names in Prefect's UI: what a person typed stays, what Prefect made up does not, and jobs do not share keys."""

import re

import pytest
from prefect.utilities.names import generate_slug

from tasks.orchestration.artifacts import artifact_key, is_made_up


def test_names_that_prefect_makes_up_are_known() -> None:
    assert all(is_made_up(generate_slug(2)) for _ in range(300))


@pytest.mark.parametrize("name", ["june-receipts", "receipts", "Awesome", "a second try", "Handmade-photographs"])
def test_a_name_that_a_person_typed_is_none(name: str) -> None:
    assert not is_made_up(name)


def test_every_job_has_keys_of_its_own_that_prefect_takes() -> None:
    assert artifact_key("receipts", "costs") == "receipts-costs"
    names = [
        "receipts",
        "Receipts",
        "re.ceipts",
        "re_ceipts",
        "re-ceipts",
        "\u9818\u53ce\u66f8",
        "r\u00e9ceipts",
        "x" * 60,
    ]
    keys = [artifact_key(name, "costs") for name in names]
    assert len(set(keys)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys), keys
