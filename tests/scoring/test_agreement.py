"""How far two readings agree, field by field."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tasks.schemas import load_schema
from tasks.scoring.cells import shape_of
from tasks.scoring.readings import Agreement, agreements

RECEIPT = shape_of(load_schema("receipt").root)
FIRST: dict[str, Any] = {
    "company": "Kopi & Sons",
    "address": None,
    "date": date(2026, 1, 31),
    "items": [{"name": "Flat white", "price": Decimal("9.00")}, {"name": "Muffin", "price": Decimal("3.50")}],
    "total": Decimal("12.50"),
}


def of(second: dict[str, Any]) -> dict[str, Agreement]:
    return agreements(RECEIPT, FIRST, {**FIRST, **second})


def test_equal_readings_agree_whatever_their_spelling_and_order() -> None:
    found = of({"company": " Kopi  & Sons", "total": Decimal("12.500000000"), "items": FIRST["items"][::-1]})
    assert set(found) == {child.name for child in load_schema("receipt").root.properties}
    assert all(one == Agreement(1.0, is_full=True) for one in found.values())


@pytest.mark.parametrize(
    ("second", "field", "share"),
    [
        ({"company": "Kop1 & Sons"}, "company", 10 / 11),
        ({"company": None}, "company", 0),
        ({"address": "High Street 1"}, "address", 0),
        ({"date": date(2026, 1, 30)}, "date", 0),
        ({"total": Decimal("12.51")}, "total", 0),
        ({"items": []}, "items", 0),
    ],
)
def test_a_text_agrees_by_its_letters_all_else_or_not(second: dict[str, Any], field: str, share: float) -> None:
    found = of(second)
    told = found.pop(field)
    assert told.share == pytest.approx(share) and not told.is_full
    assert all(one.is_full for one in found.values())


def test_lists_are_paired_item_by_item() -> None:
    coffee, muffin = FIRST["items"]
    found = of({"items": [{**muffin, "price": Decimal("3.60")}, coffee]})["items"]
    assert found.share == pytest.approx(5 / 6) and not found.is_full  # name, quantity and price of each
    assert of({"items": [coffee]})["items"].share == pytest.approx(2 * 3 / 9)


def test_boxes_agree_by_their_overlap() -> None:
    shape = shape_of(load_schema("objects").root)

    def cat(right: int) -> dict[str, Any]:
        return {"objects": [{"label": "cat", "box": {"left": 0, "top": 0, "right": right, "bottom": 10}}]}

    near, far = (agreements(shape, cat(100), cat(right))["objects"] for right in (80, 40))
    assert near.share == pytest.approx((1 + 0.8) / 2) and near.is_full
    assert far.share == pytest.approx((1 + 0.4) / 2) and not far.is_full


def test_two_readings_of_a_page_may_differ_in_a_letter_of_fifty() -> None:
    shape = shape_of(load_schema("document").root)
    page = "All work and no play. " * 20
    for other, full in ((page.replace("work", "w0rk", 4), True), (page.replace("work", "w0rk"), False)):
        found = agreements(shape, {"text": page}, {"text": other})["text"]
        assert (found.is_full, 0.9 < found.share < 1) == (full, True)
    assert not agreements(shape, {"text": "INV-1007"}, {"text": "INV-1001"})["text"].is_full
