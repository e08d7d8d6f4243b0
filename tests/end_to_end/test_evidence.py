"""`--evidence`: where on the image each value was read, in pixels of the original, checked for sense, never at a cost.

The reader of these tests finds colours: each field of a page is a bar of its own colour, whose box it measures in the
image that it is sent, shrunk, turned and compressed as that is.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from config.job import Job
from flows.analyze_images import analyze_images
from tasks.planning.plan import make_plan
from tasks.schemas import load_schema
from tasks.schemas.boxes import SentImage, entries_of, evidence_of
from tasks.simulator import Simulator, service
from tasks.simulator.rules import MessagesRequest
from tests.asking import asking, pages, question, steps
from tests.misreading import schema_file
from tests.runs import draw, rows

COLOURS = {"company": (200, 0, 0), "date": (0, 160, 0), "total": (0, 0, 200)}
VALUE = {"company": "Mill & Sons", "date": "2026-01-31", "total": 12.5}
Boxes = dict[str, tuple[int, int, int, int]]


def page(path: Path, size: tuple[int, int], boxes: Boxes, *, orientation: int = 1) -> None:
    """A page with a bar for each field, as a camera held so stores it; boxes are of the page as one sees it."""
    image = Image.new("RGB", size, "white")
    for name, (left, top, right, bottom) in boxes.items():
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), COLOURS[name])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else image
    turned.save(path, quality=95, subsampling=0, exif=exif)


def found(data: bytes) -> Boxes:
    """The box of each colour in the image that was sent."""
    pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB"), np.int16)
    boxes: Boxes = {}
    for name, colour in COLOURS.items():
        down, across = np.nonzero(np.abs(pixels - np.array(colour)).max(axis=2) < 60)
        boxes[name] = (int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1)
    return boxes


def entry(name: str, box: tuple[int, ...]) -> dict[str, Any]:
    return {"field": name, **dict(zip(("left", "top", "right", "bottom"), box, strict=True))}


def answer(question: MessagesRequest, _: str | None) -> str:
    boxes = found(question.images[0].data)
    return json.dumps({"answer": VALUE, "evidence": [entry(name, box) for name, box in boxes.items()]})


def run(images: Path, output: Path, **options: Any) -> dict[str, Any]:
    job = Job(name="read", answer_schema=schema_file(output.parent / "schemas"), evidence=True, **options)
    return analyze_images(str(images), str(output), job)


@pytest.mark.usefixtures("prefect_server", "simulator")
def test_boxes_are_those_of_the_original_to_a_few_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "answer_text", answer)
    images = tmp_path / "images"
    images.mkdir()
    drawn: dict[str, Boxes] = {
        "large.jpg": {
            "company": (300, 200, 2100, 320),
            "date": (2500, 500, 3400, 600),
            "total": (2700, 4700, 3300, 4840),
        },
        "small.jpg": {"company": (40, 30, 300, 60), "date": (320, 80, 460, 110), "total": (350, 600, 470, 640)},
        "turned.jpg": {"company": (100, 90, 900, 160), "date": (500, 300, 800, 350), "total": (600, 2000, 1000, 2080)},
    }
    page(images / "large.jpg", (3600, 5000), drawn["large.jpg"])
    page(images / "small.jpg", (500, 700), drawn["small.jpg"])
    page(images / "turned.jpg", (1200, 2400), drawn["turned.jpg"], orientation=6)

    summary = run(images, tmp_path / "out", verify="again")
    results = rows(summary).set_index("name")
    assert (summary["ok"], summary["needs_review"]) == (3, 0)
    for name, boxes in drawn.items():
        row = results.loc[name]
        assert set(row["result"]) == set(VALUE), "the answer keeps its type"
        scale = max(row["source_width"] / row["sent_width"], 1.0)
        for field, sides in boxes.items():
            box = row["evidence"][field]
            errors = [abs(box[side] - at) for side, at in zip(("left", "top", "right", "bottom"), sides, strict=True)]
            assert max(errors) <= 2 * scale, f"{name} {field}: {errors} pixels off, {scale:.2f} to one that was sent"
            assert box["page"] == 1
    assert Path(summary["report"]).read_text().count("<title>total</title>") == 3


@pytest.mark.usefixtures("prefect_server")
def test_no_evidence_of_any_kind_harms_an_answer(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw(tmp_path / "images", 4)
    lies: list[Any] = [
        {"answer": VALUE},
        {"answer": VALUE, "evidence": "everywhere"},
        {
            "answer": VALUE,
            "evidence": [None, {"field": "total"}, entry("total", (1, 2, 3, 10**30)), entry("x", (1,) * 4)],
        },
        {"answer": {**VALUE, "total": "much"}, "evidence": []},
    ]
    monkeypatch.setattr(service, "answer_text", lambda *_: json.dumps(lies.pop()))
    results = rows(run(images, tmp_path / "out", concurrency=1, max_failed=1.0))
    assert sorted(results["status"]) == ["invalid", "ok", "ok", "ok"]
    good = results[results["status"] == "ok"]
    assert all(set(one.values()) == {None} for one in good["evidence"])
    assert simulator.ledger().requests == 4


class Whole:
    """SentImage as it is."""

    scale_x = scale_y = 1.0
    offset_x = offset_y = 0.0
    source_width, source_height = 100, 200


SENT = SentImage(3, 100, 200, Whole())


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        ([(10, 10, 50, 30)], (10, 10, 50, 30)),
        ([(-2, 10, 50, 203)], (0, 10, 50, 200)),  # an edge just outside is the image's own
        ([(-30, 10, 50, 30)], None),
        ([(50, 10, 10, 30)], None),
        ([(10, 10, 10, 30)], None),
        ([(0, 0, 100, 200)], None),  # the whole page, for one value
        ([(500, 10, 600, 30), (1, 2, 3, 4), (5, 6, 7, 8)], (1, 2, 3, 4)),
    ],
)
def test_a_box_that_cannot_be_true_is_dropped(boxes: list[tuple[int, ...]], kept: tuple[int, ...] | None) -> None:
    root = load_schema("receipt").root
    found = evidence_of(root, {"company": "Kopi"}, entries_of([entry("company", box) for box in boxes]), SENT)
    wanted = kept and {"page": 3, **dict(zip(("left", "top", "right", "bottom"), kept, strict=True))}
    assert found.pop("company") == wanted
    assert set(found.values()) == {None}, "no value, no evidence"


def test_a_list_may_have_a_box_a_line_and_may_be_the_page() -> None:
    root, items = load_schema("receipt").root, {"items": [{"name": "Tea"}]}
    lines = entries_of([entry("items", (10, 20, 60, 30)), entry("items", (12, 40, 80, 50))])
    assert evidence_of(root, items, lines, SENT)["items"] == {
        "page": 3,
        "left": 10,
        "top": 20,
        "right": 80,
        "bottom": 50,
    }
    assert evidence_of(root, items, entries_of([entry("items", (0, 0, 100, 200))]), SENT)["items"]


def test_it_needs_a_schema_and_costs_none_of_the_places_that_the_api_counts(
    simulator: Simulator, tmp_path: Path
) -> None:
    images = draw(tmp_path / "images", 1)
    with pytest.raises(Exception, match="--evidence says where the value of each field stands"):
        make_plan(str(images), str(tmp_path / "out"), Job(evidence=True))
    wide = {f"field{n}": {"type": ["string", "null"], "enum": [f"a{n}", None]} for n in range(16)}
    wide |= {f"more{n}": {"type": "string"} for n in range(24)}
    path = schema_file(tmp_path / "schemas", {"type": "object", "properties": wide})
    schema = load_schema(path).with_evidence()
    with asking(simulator.url, tmp_path, steps=steps(question(schema=schema.api)), schema=schema) as asked:
        (outcome,) = asked.ask(pages(1), attempts=1)
    assert outcome.status in ("ok", "invalid"), "the endpoint takes the fullest schema, and with it evidence"
