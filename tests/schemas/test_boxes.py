"""Boxes come back in pixels of the original image, in every layout."""

import json

import pytest
from PIL import Image, ImageDraw

from config.job import Job
from tasks.errors import SchemaError
from tasks.schemas import load_schema
from tasks.scoring.answer_columns import AnswerColumns, seen_by
from tasks.types import PreparedImage
from tests.schemas import errors, fitted, schema


def prepared(size: tuple[int, int], scale: tuple[float, float], offset: tuple[float, float] = (0, 0)) -> PreparedImage:
    return PreparedImage(
        page=1,
        data=b"",
        media_type="image/png",
        sha256="",
        width=0,
        height=0,
        source_format="PNG",
        source_width=size[0],
        source_height=size[1],
        scale_x=scale[0],
        scale_y=scale[1],
        offset_x=offset[0],
        offset_y=offset[1],
    )


@pytest.mark.parametrize("offset", [(0, 0), (12, 40)])
@pytest.mark.parametrize("target", [(0, 0, 40, 30), (400, 200, 940, 1000), (1212, 804, 1600, 1200)])
def test_boxes_come_back_in_original_pixels(target: tuple[int, ...], offset: tuple[int, int]) -> None:
    original = Image.new("RGB", (1600, 1200), "white")
    left, top, right, bottom = target
    ImageDraw.Draw(original).rectangle((left, top, right - 1, bottom - 1), fill="black")
    sent = Image.new("L", (824, 640), "white")
    sent.paste(original.convert("L").resize((800, 600), Image.Resampling.LANCZOS), offset)
    seen = sent.point(lambda level: 255 if level < 128 else 0).getbbox()
    assert seen is not None

    of = load_schema("objects")
    assert of.boxes == ("$.objects[].box",)
    box = dict(zip(("left", "top", "right", "bottom"), seen, strict=True))
    value = fitted(of, {"objects": [{"label": "target", "box": box}]})
    mapped = of.map_boxes(value, prepared((1600, 1200), (0.5, 0.5), offset))["objects"][0]["box"]
    assert all(abs(mapped[edge] - wanted) <= 1 for edge, wanted in zip(box, target, strict=True))
    assert {type(edge) for edge in mapped.values()} == {int}


@pytest.mark.parametrize(
    ("names", "box", "mapped"),
    [
        (("left", "top", "right", "bottom"), (10, 20, 30, 40), (20.0, 80.0, 60.0, 160.0)),
        (("x1", "y1", "x2", "y2"), (10, 20, 30, 40), (20.0, 80.0, 60.0, 160.0)),
        (("x", "y", "width", "height"), (10, 20, 20, 20), (20.0, 80.0, 40.0, 80.0)),
        (("left", "top", "width", "height"), (10, 20, 9000, 20), (20.0, 80.0, 80.0, 80.0)),
    ],
)
def test_the_layouts_of_boxes(names: tuple[str, ...], box: tuple[int, ...], mapped: tuple[float, ...]) -> None:
    numbers = {name: {"type": "number"} for name in names}
    of = schema(where={"type": "object", "properties": numbers, "required": [*names], "x-box": "pixels"})
    assert "x-box" not in json.dumps(of.api)
    value = fitted(of, {"where": dict(zip(names, box, strict=True))})
    assert of.map_boxes(value, prepared((100, 200), (0.5, 0.25))) == {"where": dict(zip(names, mapped, strict=True))}


def test_a_box_as_a_list_is_kept_inside_the_image() -> None:
    of = schema(where={"type": "array", "items": {"type": "integer"}, "x-box": "pixels"}, note={"type": "string"})
    value = fitted(of, {"where": [-5, 0, 999, 50], "note": "a"})
    assert of.map_boxes(value, prepared((100, 200), (0.5, 0.5))) == {"where": [0, 0, 100, 100], "note": "a"}
    assert "a box has 4 numbers, not 3" in errors(of, {"where": [1, 2, 3], "note": "a"})


def test_a_box_that_could_not_be_mapped_is_refused() -> None:
    box = {"type": "array", "items": {"type": "integer"}, "x-box": "pixels"}
    with pytest.raises(SchemaError, match=r"\$.where: a box inside a choice of types"):
        schema(where={"anyOf": [box, {"type": "string"}]})


def test_each_readers_boxes_are_of_the_image_as_it_saw_it() -> None:
    """Sent for a model of the high vision tier, and read again by one of the standard tier, which sees it smaller."""
    where = {"sent_scale_x": 0.5, "sent_scale_y": 0.5, "sent_offset_x": 0.0, "sent_offset_y": 0.0}
    sizes = {"sent_width": 2000, "sent_height": 1500, "source_width": 4000, "source_height": 3000}
    row = {"status": "ok", "page": 1, "model": "claude-haiku-5-5", **where, **sizes}
    first, second = seen_by("claude-haiku-5-5", row), seen_by("claude-haiku-4-5", row)
    assert (first.width, first.height) == (2000, 1500)
    assert second.width < 1568

    def answer(width: int, height: int) -> str:
        box = {"left": round(0.2 * width), "top": round(0.1 * height), "right": width, "bottom": height}
        return json.dumps({"objects": [{"label": "cat", "box": box}]})

    readings = {"answer": answer(2000, 1500), "second": {"status": "ok", "answer": answer(second.width, second.height)}}
    columns = AnswerColumns(load_schema("objects"), Job(verify="claude-haiku-4-5"))({**row, **readings})
    assert columns["result"]["objects"][0]["box"] == {"left": 800, "top": 300, "right": 4000, "bottom": 3000}
    assert columns["agreement"]["objects"] > 0.99 and not columns["needs_review"]
