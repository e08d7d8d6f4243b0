"""`visionflow export`: what labelling tools get, and that a Label Studio export comes back as the same labels."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from config.job import Job
from flows.__main__ import main
from tasks.labelling.exporting import ExportChoice, export_run
from tasks.labelling.truth import fit_truth, read_truth
from tasks.recording.writer import TableFile, TableWriter, write_table_file
from tasks.schemas import load_schema
from tasks.schemas.loading import build_schema
from tasks.scoring.cells import tally
from tasks.scoring.scores import fields_of
from tasks.storage.output import Output, open_output
from tasks.types import Source

RUN = "20261124T200000Z-aaaa"
HOSTILE = '<script>"&\u202e'


def box(left: int, top: int, right: int, bottom: int) -> dict[str, int]:
    return {"left": left, "top": top, "right": right, "bottom": bottom}


RECEIPT: dict[str, Any] = {
    "company": HOSTILE,
    "date": date(2026, 5, 9),
    "items": [{"name": "Flat white", "quantity": 2.0, "price": Decimal("9.00")}, {"name": "Tea", "price": None}],
    "tax": None,
    "total": Decimal("12.50"),
    "payment": "cash",
}
OBJECTS: dict[str, Any] = {
    "objects": [{"label": "cup", "box": box(300, 40, 360, 120)}, {"label": HOSTILE, "box": box(0, 0, 599, 399)}]
}


def record(output: Output, schema: str, result: dict[str, Any], **more: Any) -> None:
    """A run with a good row, one to review, and one that failed."""
    common = {"page": 1, "model": "claude-haiku-5-5", "preset": "ocr", "source_width": 600, "source_height": 400}
    good = {**common, "image": "/photos/a b.jpg", "name": "a b.jpg", "status": "ok", "result": result, **more}
    rows = [
        good,
        {**good, "image": "s3://acme/b.jpg", "name": "b.jpg", "page": 2, "needs_review": True},
        {**common, "image": "/photos/c.jpg", "name": "c.jpg", "status": "refused", "error": "It declined."},
    ]
    with TableWriter(output, "results", "job", RUN, load_schema(schema).arrow) as results:
        results.add(rows)
    settings = json.dumps(Job(answer_schema=schema).model_dump(mode="json", by_alias=True))
    write_table_file(TableFile(output, "runs", "job", RUN, "run.parquet"), [{"run_id": RUN, "settings": settings}])


def exported(output: Output, schema: str, to: str, *, review: bool = False) -> Any:
    made = export_run(output, "job", RUN, ExportChoice(to, load_schema(schema).root, review))
    text = Path(made.file).read_text()
    return [json.loads(line) for line in text.splitlines()] if to == "jsonl" else json.loads(text)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return open_output(str(tmp_path / "out"))


def test_a_prediction_holds_all_boxes_in_percent(output: Output) -> None:
    """The form of https://labelstud.io/guide/predictions: each key that it names, and no entry a box."""
    record(output, "objects", OBJECTS)
    task, paged, failed = exported(output, "objects", "label-studio")
    assert task["data"] == {
        "image": "/data/local-files/?d=photos/a%20b.jpg",
        "uri": "/photos/a b.jpg",
        "page": 1,
        "name": "a b.jpg",
        "status": "ok",
    }
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "claude-haiku-5-5 ocr"
    assert prediction["result"][0] == {
        "id": "r1",
        "from_name": "objects",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 600,
        "original_height": 400,
        "image_rotation": 0,
        "value": {"x": 50.0, "y": 10.0, "width": 10.0, "height": 20.0, "rotation": 0, "rectanglelabels": ["cup"]},
    }
    assert len({region["id"] for region in prediction["result"]}) == 2
    assert (paged["data"]["image"], paged["data"]["page"]) == ("s3://acme/b.jpg", 2)
    assert failed["predictions"] == [] and failed["data"]["error"] == "It declined."


def test_fields_are_choices_and_texts_and_the_interface_names_them_all(output: Output) -> None:
    record(output, "receipt", RECEIPT, agreement={"total": 1.0, "date": 0.5})
    task = exported(output, "receipt", "label-studio")[0]
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.75
    values = {region["from_name"]: (region["type"], region["value"]) for region in prediction["result"]}
    assert values["payment"] == ("choices", {"choices": ["cash"]})
    assert values["total"] == ("textarea", {"text": ["12.5"]})
    assert values["date"] == ("textarea", {"text": ["2026-05-09"]})
    assert [json.loads(line)["name"] for line in values["items"][1]["text"]] == ["Flat white", "Tea"]
    assert "tax" not in values, "what is not there is left for the person to see"
    view = ElementTree.parse(f"{output.uri}/exports/job=job/run={RUN}/label-studio.xml").getroot()  # ours
    tags = {tag.get("name"): tag.tag for tag in view if tag.get("toName") == "image"}
    assert tags.keys() == set(load_schema("receipt").arrow.names)
    assert {tags["payment"], tags["total"]} == {"Choices", "TextArea"}
    assert [choice.get("value") for choice in view.iter("Choice")][:2] == ["cash", "card"]


@pytest.mark.parametrize(("schema", "result"), [("receipt", RECEIPT), ("objects", OBJECTS)])
def test_what_a_person_confirms_in_label_studio_comes_back_as_truth(
    output: Output, tmp_path: Path, schema: str, result: dict[str, Any]
) -> None:
    """Label Studio makes an annotation of a prediction by copying its result, and adds keys of its own."""
    evidence = {"objects": {"page": 1, "left": 1.0, "top": 1.0, "right": 2.0, "bottom": 2.0}}
    record(output, schema, result, **({"evidence": evidence} if schema == "objects" else {}))
    tasks = exported(output, schema, "label-studio")
    for number, task in enumerate(tasks, start=1):
        kept = [{**region, "origin": "prediction"} for one in task.pop("predictions") for region in one["result"]]
        own = {"was_cancelled": False, "ground_truth": False, "lead_time": 4.288, "completed_by": 10, "task": number}
        task |= {
            "id": number,
            "project": 83,
            "annotations": [{"id": 1000 + number, "result": kept, **own}] if kept else [],
        }
    path = tmp_path / "project-83.json"
    path.write_text(json.dumps(tasks))
    images = [Source("/photos/a b.jpg", "a b.jpg", 1), Source("s3://acme/b.jpg", "b.jpg", 1)]
    root = load_schema(schema).root
    truth = fit_truth(read_truth(str(path)), images, root, str(path))
    assert truth.labels.keys() == {("/photos/a b.jpg", 1), ("s3://acme/b.jpg", 2)}
    for label in truth.labels.values():
        for name, shape in fields_of(root, None):
            assert tally(shape, label.get(name), result.get(name)).f1 == 1, name


def test_evidence_is_drawn_beside_the_fields(output: Output) -> None:
    """Boxes that show where a value was read are for the eye, and no label."""
    where = {"page": 1, "left": 60.0, "top": 40.0, "right": 120.0, "bottom": 80.0}
    record(output, "receipt", RECEIPT, evidence={"total": where})
    regions = exported(output, "receipt", "label-studio")[0]["predictions"][0]["result"]
    (drawn,) = [region for region in regions if region["from_name"] == "evidence"]
    assert drawn["value"]["rectanglelabels"] == ["total"] and drawn["value"]["x"] == 10
    view = ElementTree.parse(f"{output.uri}/exports/job=job/run={RUN}/label-studio.xml").getroot()  # ours
    assert "evidence" in {tag.get("name") for tag in view.iter("RectangleLabels")}


def test_labels_that_xml_cannot_hold_are_called_alike_in_both_files(output: Output) -> None:
    record(output, "objects", {"objects": [{"label": "a\x00b\x1b[31m", "box": box(0, 0, 6, 4)}]})
    (region,) = exported(output, "objects", "label-studio")[0]["predictions"][0]["result"]
    view = ElementTree.parse(f"{output.uri}/exports/job=job/run={RUN}/label-studio.xml").getroot()  # ours
    assert region["value"]["rectanglelabels"] == [tag.get("value") for tag in view.iter("Label")] == [r"a\x00b\x1b[31m"]


def test_review_holds_only_what_needs_a_person(output: Output) -> None:
    record(output, "receipt", RECEIPT)
    assert [row["name"] for row in exported(output, "receipt", "jsonl", review=True)] == ["b.jpg", "c.jpg"]
    assert [task["data"]["name"] for task in exported(output, "receipt", "label-studio", review=True)] == [
        "b.jpg",
        "c.jpg",
    ]
    assert len(exported(output, "receipt", "jsonl")) == 3


def test_lines_come_back_as_truth(output: Output) -> None:
    record(output, "receipt", RECEIPT)
    made = export_run(output, "job", RUN, ExportChoice("jsonl"))
    lines = Path(made.file).read_text().splitlines()
    Path(made.file).write_text(lines[0] + "\n")
    found = fit_truth(
        read_truth(made.file), [Source("/photos/a b.jpg", "a b.jpg", 1)], load_schema("receipt").root, "x"
    )
    assert found.labels["/photos/a b.jpg", 1]["total"] == Decimal("12.5")
    assert json.loads(lines[2]) | {"model": "", "preset": ""} == {
        "image": "/photos/c.jpg",
        "page": 1,
        "name": "c.jpg",
        "model": "",
        "preset": "",
        "status": "refused",
        "error": "It declined.",
    }


def test_coco(output: Output) -> None:
    record(output, "objects", OBJECTS)
    found = exported(output, "objects", "coco")
    assert found["images"][0] | {"uri": ""} == {
        "id": 1,
        "file_name": "a b.jpg",
        "uri": "",
        "page": 1,
        "width": 600,
        "height": 400,
    }
    assert [one["name"] for one in found["categories"]] == ["cup", HOSTILE]
    first = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [300, 40, 60, 80], "area": 4800, "iscrowd": 0}
    assert found["annotations"][0] == first
    assert [one["image_id"] for one in found["annotations"]] == [1, 1, 2, 2]


def test_the_command_says_what_it_wrote_and_what_cannot_be(
    output: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(output, "receipt", RECEIPT)
    assert main(["export", output.uri, "--to", "label-studio", "--review"]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 rows, those that a person should look at" in said
    assert f"exports/job=job/run={RUN}/review-label-studio.json" in said and "review-label-studio.xml" in said
    assert main(["export", output.uri, "--to", "coco"]) == 2
    assert "hold no boxes, which COCO is for" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--to", "jsonl"]) == 2
    assert "No finished run in" in capsys.readouterr().err


def test_answers_without_a_schema_and_values_of_every_kind(output: Output) -> None:
    row = {"image": "/a.jpg", "page": 1, "name": "a.jpg", "model": "m", "preset": "ocr", "status": "ok"}
    with TableWriter(output, "results", "plain", RUN) as results:
        results.add([{**row, "answer": "KOPI\n9.00"}])
    made = export_run(output, "plain", RUN, ExportChoice("label-studio"))
    (region,) = json.loads(Path(made.file).read_text())[0]["predictions"][0]["result"]
    assert region["value"] == {"text": ["KOPI\n9.00"]}

    properties: dict[str, Any] = {
        "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        "sealed": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    schema = build_schema("odd", {"type": "object", "properties": properties}, label="odd")
    result = {"prices": [("tea", 2.0)], "sealed": False, "tags": ["one"]}
    with TableWriter(output, "results", "odd", RUN, schema.arrow) as results:
        results.add([{**row, "result": result}])
    made = export_run(output, "odd", RUN, ExportChoice("label-studio", schema.root))
    task = json.loads(Path(made.file).read_text())[0]
    task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    Path(made.file).write_text(json.dumps([task]))
    found = fit_truth(read_truth(made.file), [Source("/a.jpg", "a.jpg", 1)], schema.root, made.file)
    assert found.labels["/a.jpg", 1] == {"prices": {"tea": 2}, "sealed": False, "tags": ["one"]}
