"""The page of a comparison: true figures, both answers where they differ, and nothing from outside taken for markup."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from config.job import Choices, Job
from tasks.labelling.exporting import write_disagreements
from tasks.labelling.truth import read_truth
from tasks.planning.variants import Comparison, plan_comparison
from tasks.reporting.comparison_page import render_comparison, shortened, write_comparison
from tasks.schemas import load_schema
from tasks.scoring.comparison import Compared, compare_rows
from tasks.simulator import Simulator
from tests.reporting.test_report_html import ATTACK, Page
from tests.runs import draw

COUNT = 12
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5")


@pytest.fixture
def comparison(tmp_path: Path, simulator: Simulator) -> Comparison:
    """Twelve images with labels, the company's name of which is an attack, and two models."""
    assert simulator.url
    images = draw(tmp_path / "images", COUNT)
    job = Job(answer_schema="receipt")
    planned = plan_comparison(str(images), str(tmp_path / "out"), job, Choices(models=MODELS))
    labels = {
        (image.uri, 1): {"company": ATTACK, "total": Decimal(n)} for n, image in enumerate(planned.listing.images)
    }
    return replace(planned, labels=labels)


def row(uri: str, company: Any, total: Any, **more: Any) -> dict[str, Any]:
    result = dict.fromkeys(load_schema("receipt").arrow.names) | {
        "company": company,
        "total": Decimal(total),
        "items": [],
    }
    tokens = {"input_tokens": 1000, "output_tokens": 100, "cache_read_tokens": 0, "cache_write_tokens": 0}
    common = {"page": 1, "name": uri.rpartition("/")[2], "status": "ok", "answer": "{}", "cost_usd": Decimal(0)}
    asked = {"model": "m", "preset": "ocr", "source_width": 60, "source_height": 40}
    return {"image": uri, **common, **tokens, **asked, "latency_ms": 840, "result": result, **more}


def compared(comparison: Comparison) -> Compared:
    """The first model errs in two images and fails in one."""
    uris = [image.uri for image in comparison.listing.images]
    good = [row(uri, ATTACK, number) for number, uri in enumerate(uris)]
    poor = [row(uri, ATTACK, number + (number < 2)) for number, uri in enumerate(uris)]
    poor[5] = row(uris[5], None, 0, status="refused", result=None, error=ATTACK)
    return compare_rows(comparison, [poor, good], [{"run_id": "one"}, {"run_id": "two"}])


def page_of(found: Compared) -> Page:
    page = Page(render_comparison(found))
    assert page.open == []
    page.text = " ".join(page.text.split())
    return page


def test_beside_the_page_lie_the_scores_it_sums_up(comparison: Comparison) -> None:
    found = compared(comparison)
    scores = pd.read_parquet(Path(write_comparison(found)).with_name("scores.parquet"))
    assert len(scores) == 2 * 2 * COUNT and set(scores["field"]) == {"company", "total"}
    totals = scores[(scores["model"] == MODELS[0]) & (scores["field"] == "total")]
    assert totals["score"].tolist() == [0, 0, *[1] * 3, 0, *[1] * 6], "two wrong, one refused"
    for told, variant in zip(found.summary["variants"], MODELS, strict=True):
        cells = scores[scores["model"] == variant].groupby("image")[["right", "wanted", "given"]].sum()
        assert (2 * cells["right"] / (cells["wanted"] + cells["given"])).mean() == pytest.approx(told["score"])


def test_figures_both_answers_and_no_markup_from_outside(comparison: Comparison) -> None:
    found = compared(comparison)
    page = page_of(found)
    assert ATTACK in page.text
    assert {tag for tag, _ in page.elements} & {"script", "img", "iframe", "form", "link"} == set()
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    policy = next(of["content"] for tag, of in page.elements if of.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "script-src" not in policy
    assert "Where they differ: 3 of 12 images" in page.text
    assert f"{found.summary['variants'][0]['score']:.3f}" in page.text
    assert found.why in page.text
    assert "$1.50" in found.why or "per 1,000 images" in found.why
    points = [of for tag, of in page.elements if tag == "circle"]
    assert len(points) == 2
    assert all(0 <= float(str(of["cx"])) <= 1000 and 0 <= float(str(of["cy"])) <= 340 for of in points)


def test_an_answer_stands_beside_the_label_and_the_wrong_one_is_marked(comparison: Comparison) -> None:
    source = render_comparison(compared(comparison))
    assert source.count('<td class="wrong">') == 2 + 2, "two totals, and both fields of the image that was declined"
    assert '<td class="wrong">refused</td>' in source


def test_pictures_of_images_that_are_still_what_was_asked_about(comparison: Comparison, tmp_path: Path) -> None:
    images = list(comparison.listing.images)
    rows = [
        row(one.uri, None, 0, source_etag=one.etag, source_bytes=one.size, result={"company": "x", "total": Decimal(9)})
        for one in images
    ]
    found = compare_rows(comparison, [rows, rows], [{"run_id": "one"}, {"run_id": "two"}])
    page = Page(Path(write_comparison(found)).read_text())
    pictures = [of["src"] or "" for tag, of in page.elements if tag == "img"]
    assert len(pictures) == COUNT and all(one.startswith("data:image/webp;base64,") for one in pictures)


def test_without_labels_the_page_tells_of_agreement_and_the_files_are_for_labelling(comparison: Comparison) -> None:
    found = compared(replace(comparison, labels=None))
    assert found.choice is None and found.summary["best"] is None
    one, two = found.summary["variants"]
    assert one["score"] is None
    assert one["fields"]["total"]["agreement"] == pytest.approx(9 / 12)
    assert two["fields"]["total"]["agreement"] == pytest.approx(9 / 11, abs=1e-6), "where the other has an answer"
    assert "the variants differ in 3 of 12 images, most in total (78.3 % agreement)" in found.why
    page = page_of(found)
    assert "2 variants without labels" in page.text and "Label" not in [of.get("class") for _, of in page.elements]

    file = write_disagreements(found)
    assert file is not None
    labels = {label.image: label.fields for label in read_truth(file)}
    assert len(labels) == 3
    first = comparison.listing.images[0].uri
    assert labels[first]["differ"] == ["total"] and labels[first]["total"] is None
    assert labels[first]["company"] == ATTACK, "what all agree on stands there already"
    assert [said["total"] for said in labels[first]["answers"].values()] == ["1", "0"]
    assert (Path(file).parent / "label-studio.xml").exists()
    tasks = (Path(file).parent / "label-studio.json").read_text()
    assert tasks.count('"model_version": "claude-haiku-5-5"') == 2, "none for the image that it declined"


def test_all_alike_is_no_disagreement(comparison: Comparison) -> None:
    rows = [row(image.uri, "KOPI", 1) for image in comparison.listing.images]
    found = compare_rows(replace(comparison, labels=None), [rows, rows], [{"run_id": "one"}, {"run_id": "two"}])
    assert write_disagreements(found) is None
    assert found.why.endswith("the variants differ in 0 of 12 images.")


def test_long_values_are_cut() -> None:
    assert len(shortened("x" * 5000)) == 601
    assert len(shortened([{"a": "b"}] * 500)) == 20
