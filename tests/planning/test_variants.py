"""The plan of a comparison: which images are asked about, which variants there are, and what cannot be compared."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from config.job import Choices, Job
from tasks.errors import UsageError
from tasks.planning.variants import Comparison, plan_comparison, unlabelled, with_cap
from tasks.simulator import Simulator
from tests.runs import draw

RECEIPTS = Job(answer_schema="receipt")


@pytest.fixture
def truth(tmp_path: Path, simulator: Simulator) -> Path:
    """Labels of the first six of eight images."""
    assert simulator.url
    draw(tmp_path / "images", 8)
    path = tmp_path / "truth.jsonl"
    path.write_text("\n".join(json.dumps({"image": f"p{number:03}.jpg", "total": number}) for number in range(6)))
    return path


def planned(truth: Path, job: Job = RECEIPTS, **choices: object) -> Comparison:
    chosen = Choices.model_validate({"truth": str(truth), **choices})
    return plan_comparison(str(truth.parent / "images"), str(truth.parent / "out"), job, chosen)


def names(comparison: Comparison) -> list[str]:
    return [image.name for image in comparison.listing.images]


def test_only_labelled_images_are_asked_about_and_of_those_what_the_job_wants(truth: Path) -> None:
    assert len(names(planned(truth))) == 6 and unlabelled(planned(truth)) == 2
    limited = planned(truth, RECEIPTS.model_copy(update={"limit": 2, "exclude": ("p001*",)}))
    assert names(limited) == ["p000.jpg", "p002.jpg"]
    assert limited.labels is not None and len(limited.labels) == 2
    with pytest.raises(UsageError, match="No labelled image is left after --include and --exclude"):
        planned(truth, RECEIPTS.model_copy(update={"include": ("*.png",)}))


def test_every_combination_is_a_variant_once_and_named_by_what_differs(truth: Path) -> None:
    models = ("claude-haiku-5-5", "claude-opus-5-5", "claude-haiku-5-5")
    comparison = planned(truth, models=models, prompts=("Read.", "Look."))
    assert [comparison.name(variant) for variant in comparison.variants] == [
        "claude-haiku-5-5 prompt 1",
        "claude-haiku-5-5 prompt 2",
        "claude-opus-5-5 prompt 1",
        "claude-opus-5-5 prompt 2",
    ]
    assert {variant.plan.name for variant in comparison.variants} == {"images-compare"}
    assert [variant.prompt for variant in planned(truth).variants] == [None]
    assert len({variant.plan.run_id for variant in comparison.variants}) == 4
    estimates = comparison.estimates()
    assert all(one is not None and one > 0 for one in estimates) and estimates[0] < estimates[2]  # type: ignore[operator]


def test_what_is_left_of_the_cap_is_the_next_variants(truth: Path) -> None:
    (variant,) = planned(truth).variants
    assert with_cap(variant.plan, Decimal("0.5")).job.max_cost == Decimal("0.5")
    assert with_cap(variant.plan, None) is variant.plan


def test_without_labels_two_variants_are_needed_and_answers_must_be_of_one_type(truth: Path) -> None:
    images, output = str(truth.parent / "images"), str(truth.parent / "out")
    with pytest.raises(UsageError, match="give --truth FILE, or a second --model"):
        plan_comparison(images, output, RECEIPTS, Choices())
    comparison = plan_comparison(images, output, RECEIPTS, Choices(models=("claude-haiku-5-5", "claude-opus-5-5")))
    assert comparison.labels is None and len(names(comparison)) == 8
