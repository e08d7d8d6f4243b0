"""Labels from every kind of file, and whatever is wrong with them told with file, row and field."""

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import TruthError, UsageError
from tasks.labelling.truth import Truth, fit_truth, read_truth
from tasks.schemas import load_schema
from tasks.types import Source

RECEIPT = load_schema("receipt").root
IMAGES = [Source(f"/photos/{name}", name, 1) for name in ("a.jpg", "b.jpg", "sub/a.jpg", "c.tif")]
LINES = [{"name": "Flat white", "price": "9.00"}]


def fitted(path: Path, root: Any = RECEIPT) -> Mapping[tuple[str, int], Any]:
    return truth(path, root).labels


def truth(path: Path, root: Any = RECEIPT) -> Truth:
    return fit_truth(read_truth(str(path)), IMAGES, root, str(path))


def lines(folder: Path, *rows: Any) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_every_kind_of_file_says_the_same(tmp_path: Path) -> None:
    wanted = {
        ("/photos/a.jpg", 1): {"company": "KOPI", "date": date(2018, 12, 25), "total": Decimal(9), "items": LINES},
        ("/photos/b.jpg", 1): {"company": None, "date": date(2018, 3, 12), "total": Decimal("1234.5"), "items": []},
    }
    rows: list[dict[str, Any]] = [
        {"image": "a.jpg", "company": "KOPI", "date": "25/12/2018", "total": "RM 9.00", "items": LINES},
        {"image": "/photos/b.jpg", "company": None, "date": "12/03/18", "total": "1,234.50", "items": []},
    ]
    files = [lines(tmp_path, *rows)]
    table = pd.DataFrame(rows)
    table.to_parquet(tmp_path / "truth.parquet")
    table.assign(items=table["items"].map(json.dumps)).to_csv(tmp_path / "truth.csv", index=False)
    (tmp_path / "truth").mkdir()
    for row in rows:
        name = Path(str(row["image"])).name
        (tmp_path / "truth" / f"{name}.json").write_text(json.dumps({k: v for k, v in row.items() if k != "image"}))
    files += [tmp_path / name for name in ("truth.parquet", "truth.csv", "truth")]
    for file in files:
        found: dict[Any, Any] = {
            key: {**label, "total": Decimal(str(label["total"]))} for key, label in fitted(file).items()
        }
        for label in found.values():
            label["items"] = [{**one, "price": f"{one['price']:.2f}"} for one in label["items"]]
        assert found == wanted, file


def test_an_image_is_found_by_path_uri_name_and_last_part(tmp_path: Path) -> None:
    for called, position in (("/photos/sub/a.jpg", 2), ("sub/a.jpg", 2), ("./b.jpg", 1), ("elsewhere/b.jpg", 1)):
        assert truth(lines(tmp_path, {"image": called, "total": 1})).positions == [position]
    twins = [Source(f"/photos/{folder}/z.jpg", f"{folder}/z.jpg", 1) for folder in ("x", "y")]
    path = lines(tmp_path, {"image": "z.jpg", "total": 1})
    with pytest.raises(TruthError, match=r"row 1, image: 'z.jpg' may be any of 2 images of SOURCE. Give its path."):
        fit_truth(read_truth(str(path)), twins, RECEIPT, str(path))
    s3 = [Source("s3://bucket/scans/a.jpg", "a.jpg", 1)]
    path = lines(tmp_path, {"image": "s3://bucket/scans/a.jpg", "total": 1})
    assert fit_truth(read_truth(str(path)), s3, RECEIPT, str(path)).positions == [0]


def test_the_ending_of_a_file_of_labels_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "b.key.json").write_text('{"total": "9"}')
    assert list(fitted(tmp_path)) == [("/photos/b.jpg", 1)]


def test_pages_and_fields_of_fields(tmp_path: Path) -> None:
    invoice = load_schema("invoice").root
    (tmp_path / "truth.csv").write_text("image,page,seller.name,number\nc.tif,1,Kiln,A-1\nc.tif,2,Kiln,A-2\n")
    found = fitted(tmp_path / "truth.csv", invoice)
    assert found["/photos/c.tif", 2] == {"seller": {"name": "Kiln"}, "number": "A-2"}


def test_without_a_schema_the_one_field_is_the_text(tmp_path: Path) -> None:
    path = lines(tmp_path, {"image": "a.jpg", "text": "BLUE HERON"})
    assert fitted(path, None) == {("/photos/a.jpg", 1): {"answer": "BLUE HERON"}}
    with pytest.raises(TruthError, match=r"row 1: without a schema a label has one field"):
        fitted(lines(tmp_path, {"image": "a.jpg", "text": "x", "total": 1}), None)


OBJECTS = load_schema("objects").root


def test_boxes_by_any_of_their_names(tmp_path: Path) -> None:
    box = {"left": 10, "top": 20, "right": 40, "bottom": 60}
    ways = [box, {"x": 10, "y": 20, "width": 30, "height": 40}, [10, 20, 40, 60]]
    for way in ways:
        path = lines(tmp_path, {"image": "a.jpg", "objects": [{"label": "cup", "box": way}]})
        assert fitted(path, OBJECTS)["/photos/a.jpg", 1]["objects"] == [{"label": "cup", "box": box}]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"image": "a.jpg", "totl": 1}, "row 2, totl: the schema has no such field. Did you mean total."),
        ({"image": "z.jpg", "total": 1}, "row 2, image: there is no 'z.jpg' in SOURCE. Check its name."),
        ({"image": "b.jpg", "total": 1}, "row 2, image: 'b.jpg' has a label already, in {} row 1. Keep one."),
        ({"image": "a.jpg", "total": "nine"}, "row 2, total: 'nine' is no number. Write it as 1234.50."),
        ({"image": "a.jpg", "date": "3/4/2026"}, "row 2, date: '3/4/2026' is no date that can be told for sure."),
        ({"image": "a.jpg", "payment": "gold"}, "row 2, payment: 'gold' is none of the schema's values (cash, card"),
        ({"image": "a.jpg", "items": "tea"}, "row 2, items: 'tea' is not a list, as the schema has it."),
        ({"image": "a.jpg", "items": [{"cost": 1}]}, "row 2, items.cost: the schema has no such field."),
        ({"image": "a.jpg", "company": ["KOPI"]}, "row 2, company: ['KOPI'] is not one value, as the schema has it."),
        ({"total": 1}, "row 2, image: it names no image. Give the column `image` (there is: total)."),
        ({"image": "a.jpg", "page": "x"}, "row 2, page: 'x' is no page number. Write 1 for the first."),
        ({"image": "a.jpg", "page": 0}, "row 2, page: 0 is no page number. Write 1 for the first."),
        ('{"image": "a.jpg", "page": Infinity}', "row 2, page: inf is no page number. Write 1 for the first."),
        ("{'image': 'a.jpg'}", "row 2 is no JSON ("),
        ("[1]", "row 2 is no object of fields."),
    ],
)
def test_what_is_wrong_is_told_with_file_row_and_field(tmp_path: Path, row: Any, told: str) -> None:
    path = lines(tmp_path, {"image": "b.jpg", "total": 1}, row)
    with pytest.raises(TruthError) as raised:
        fitted(path)
    assert str(raised.value).startswith(f"{path} {told.format(path)}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("truth.jsonl", b'{"image": "a.jpg"}\n{"image": "\xff"}', "row 2 is no UTF-8"),
        ("truth.csv", b"", "cannot be read as CSV"),
        ("truth.parquet", b"PAR1", "cannot be read as Parquet"),
        ("truth.json", b'{"a": 1}', "is no Label Studio export"),
        ("truth.jsonl", b"\n\n", "holds no label"),
        ("truth.jsonl", b'{"image": "a.jpg", "status": "ok"}', "names images, but no field of theirs"),
        ("truth.jsonl", b'{"image": ' + b"[" * 100_000, "row 1 is no JSON"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(TruthError, match=re.escape(told)):
        fitted(path)


def test_no_file_and_a_file_of_another_kind_are_mistakes_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--truth: There is no .*none.jsonl. Check --truth"):
        read_truth(str(tmp_path / "none.jsonl"))
    with pytest.raises(UsageError, match="labels are read from this machine alone"):
        read_truth("s3://acme/truth.csv")
    (tmp_path / "truth.xlsx").write_bytes(b"PK")
    with pytest.raises(UsageError, match="is no file of labels"):
        read_truth(str(tmp_path / "truth.xlsx"))


def test_an_export_of_label_studio_is_read_as_it_publishes_it(tmp_path: Path) -> None:
    """The example of https://labelstud.io/guide/task_format, with a field of each kind of control tag."""
    regions = [
        {
            "from_name": "objects",
            "id": "Dx_aB91ISN",
            "source": "$image",
            "to_name": "img",
            "type": "rectanglelabels",
            "original_width": 600,
            "original_height": 400,
            "image_rotation": 0,
            "value": {"x": 50.0, "y": 10.0, "width": 10.0, "height": 20.0, "rotation": 0, "rectanglelabels": ["cup"]},
        }
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/3f2a9c1b-a.jpg"},
        "annotations": [
            {"id": 1001, "result": [], "was_cancelled": True},
            {"id": 1002, "result": regions, "was_cancelled": False, "lead_time": 4.288},
        ],
        "predictions": [{"model_version": "model 1", "result": []}],
    }
    unlabelled = {"id": 2, "data": {"image": "/data/local-files/?d=photos/b.jpg"}, "annotations": []}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task, unlabelled]))
    images = [Source("/photos/a.jpg", "a.jpg", 1), Source("/photos/b.jpg", "b.jpg", 1)]
    found = fit_truth(read_truth(str(path)), images, OBJECTS, str(path))
    box = {"left": 300.0, "top": 40.0, "right": 360.0, "bottom": 120.0}
    assert found.labels == {("/photos/a.jpg", 1): {"objects": [{"label": "cup", "box": box}]}}

    fields = [
        {"from_name": "payment", "to_name": "img", "type": "choices", "value": {"choices": ["cash"]}},
        {"from_name": "company", "to_name": "img", "type": "textarea", "value": {"text": ["KOPI"]}},
        {"from_name": "total", "to_name": "img", "type": "number", "value": {"number": 9}},
        {"from_name": "items", "to_name": "img", "type": "textarea", "value": {"text": [json.dumps(LINES[0])]}},
    ]
    data = {"image": "/data/local-files/?d=photos/b.jpg"}
    path.write_text(json.dumps([{"data": data, "annotations": [{"result": fields}]}]))
    found = fit_truth(read_truth(str(path)), images, RECEIPT, str(path))
    label = found.labels["/photos/b.jpg", 1]
    assert (label["payment"], label["company"], label["total"]) == ("cash", "KOPI", 9)
    assert label["items"] == [{"name": "Flat white", "price": Decimal(9)}]

    odd = {"from_name": "payment", "type": "choices", "value": {}}
    path.write_text(json.dumps([{"data": data, "annotations": [{"result": [odd]}]}]))
    with pytest.raises(TruthError, match=r"export.json task 1, annotations: a result has another form"):
        read_truth(str(path))
