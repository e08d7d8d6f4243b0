"""An answer against a label, cell by cell: the rules of value F1, of lists, and of boxes."""

from typing import Any

import pytest

from tasks.schemas import load_schema
from tasks.schemas.loading import build_schema
from tasks.scoring.cells import BOX, TEXT, Shape, Tally, iou, shape_of, tally
from tasks.scoring.scores import fields_of, figures, mark
from tests.scoring import answer, receipt, scored_fields

RECEIPT = Shape("fields", scored_fields())


def receipt_tally(answered: Any, label: Any = None) -> Tally:
    return tally(RECEIPT, label or LABEL, answered)


LABEL: dict[str, Any] = {
    "company": "KOPI",
    "date": "2026-05-09",
    "total": "12.50",
    "items": [{"name": "Flat white", "price": "9.00"}, {"name": "Muffin", "price": "3.50"}],
}


def test_a_right_answer_in_another_spelling_and_order_is_right() -> None:
    turned = {**LABEL, "total": 12.5, "items": LABEL["items"][::-1]}
    assert receipt_tally(turned).f1 == 1


def test_each_cell_counts_once() -> None:
    """Seven cells: three facts and two lines of two."""
    assert receipt_tally({**LABEL, "total": "12.60"}).f1 == pytest.approx(6 / 7)
    one_price = {**LABEL, "items": [LABEL["items"][0], {"name": "Muffin", "price": "3.60"}]}
    assert receipt_tally(one_price).f1 == pytest.approx(6 / 7)


def test_a_line_that_is_missing_costs_recall_and_one_too_many_precision() -> None:
    short = receipt_tally({**LABEL, "items": LABEL["items"][:1]})
    assert (short.right, short.wanted, short.given) == (5, 7, 5)
    long = receipt_tally({**LABEL, "items": [*LABEL["items"], {"name": "Tea", "price": "2"}]})
    assert (long.right, long.wanted, long.given) == (7, 7, 9)


def test_a_missing_key_is_null_and_a_right_null_counts() -> None:
    without = {**LABEL, "company": None}
    assert receipt_tally({key: value for key, value in without.items() if key != "company"}, without).f1 == 1
    assert receipt_tally({**without, "company": "KOPI"}, without).right == 6


def test_two_empty_lists_are_one_right_cell() -> None:
    empty = {**LABEL, "items": []}
    assert receipt_tally({**empty, "items": None}, empty).right == 4


def test_unlike_lines_are_no_pair_although_both_lack_a_price() -> None:
    label = {**LABEL, "items": [{"name": "Tea", "price": None}]}
    answered = {**LABEL, "items": [{"name": "Soup", "price": None}]}
    assert receipt_tally(answered, label).right == 3


def test_fields_that_no_label_has_are_not_scored() -> None:
    root = load_schema("receipt").root
    names = [name for name, _ in fields_of(root, [{"total": "1"}, {"total": None, "date": "2026-05-09"}])]
    assert names == ["date", "total"]
    assert {"payment", "currency", "items"} <= {name for name, _ in fields_of(root, None)}


def test_boxes_are_right_from_half_an_overlap() -> None:
    box = {"left": 0, "top": 0, "right": 100, "bottom": 100}
    near, far = {**box, "right": 140}, {**box, "right": 300}
    assert tally(BOX, box, near) == Tally(1, 1, 1, 1, (), (pytest.approx(100 / 140),))  # type: ignore[arg-type]
    assert tally(BOX, box, far).right == 0
    assert tally(BOX, box, None).overlaps == (0.0,)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 1


def test_equal_things_in_an_image_are_paired_by_where_they_are() -> None:
    root = load_schema("objects").root
    ((_, shape),) = fields_of(root, None)
    left = {"label": "cup", "box": {"left": 0, "top": 0, "right": 10, "bottom": 10}}
    right = {"label": "cup", "box": {"left": 50, "top": 0, "right": 60, "bottom": 10}}
    assert tally(shape, [left, right], [right, left]).f1 == 1
    assert tally(shape, [left, right], [right]).right == 2


def test_maps_and_values_of_any_type() -> None:
    schema = build_schema(
        "odd",
        {
            "type": "object",
            "properties": {
                "prices": {"type": "object", "additionalProperties": {"type": "number"}},
                "odd": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
        },
        label="odd",
    )
    shape = shape_of(schema.root)
    label = {"prices": {"tea": 2, "soup": 7.5}, "odd": 5}
    assert tally(shape, label, {"prices": [("soup", 7.5), ("tea", 2.0)], "odd": "5"}).f1 == 1
    assert tally(shape, label, {"prices": [("soup", 7.5), ("tea", 3.0)], "odd": '"5 "'}).right == 4


def test_a_thousand_lines_are_paired_in_a_moment() -> None:
    lines = [{"name": f"thing {number}", "price": str(number)} for number in range(1000)]
    turned = [{**line, "price": "0.5"} if at % 50 == 0 else line for at, line in enumerate(lines[::-1])]
    found = receipt_tally({**LABEL, "items": turned}, {**LABEL, "items": lines})
    assert found.right == 3 + 2000 - 20


def row(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "result": None, "answer": None, **more}


def test_failed_images_count_zero_and_unasked_ones_do_not_count() -> None:
    """A model that refuses is wrong; an endpoint that is away says nothing of the model."""
    labels = {(f"{number}.jpg", 1): receipt(number) for number in range(5)}
    keys = list(labels)
    rows = {keys[0]: row("ok", result=receipt(0)), keys[1]: row("refused"), keys[2]: row("unavailable")}
    rows[keys[3]] = row("unasked")
    sheet = mark(scored_fields(), keys, labels, rows)
    assert [str(one) for one in sheet.scores] == ["1.0", "0.0", "nan", "nan", "0.0"], "the last: no such page"
    assert not sheet.is_whole and sheet.failed == 1
    assert figures(sheet.totals)["images"] == 3


def test_what_is_spoilt_at_a_rate_scores_that_rate() -> None:
    shapes = [(name, shape) for name, shape in scored_fields() if name != "items"]
    labels = {(str(number), 1): {**receipt(number), "items": []} for number in range(400)}
    rows = {key: row("ok", result=answer(label, 0.2, "rate", key)) for key, label in labels.items()}
    told = figures(mark(shapes, list(labels), labels, rows).totals)
    assert told["low"] < 0.8 < told["high"]
    assert told["score"] == pytest.approx(0.8, abs=0.04)
    assert 0.9 < told["similarity"] < 1, "one letter of a company's name is wrong, not all"


def test_plain_text_is_one_cell() -> None:
    assert fields_of(None, None) == (("answer", TEXT),)
