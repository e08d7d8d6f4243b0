"""The documents of data/samples: invented companies, people and places; sums that are right."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

CENT = Decimal("0.01")
INK = (28, 30, 34)
GREY = (105, 110, 118)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Aileron at this size in pixels, laid out without Raqm, which is not in every Pillow."""
    face = ImageFont.load_default(size)
    assert isinstance(face, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return face.font_variant(layout_engine=ImageFont.Layout.BASIC)


class Sheet:
    """A page to write on, which remembers what was written."""

    def __init__(self, width: int, height: int, paper: Colour = (255, 255, 255)) -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.pen = ImageDraw.Draw(self.image)
        self.written: list[str] = []

    def text(
        self, at: tuple[int, int], text: str, size: int, *, anchor: str = "ls", bold: bool = False, ink: Colour = INK
    ) -> None:
        """Writes one line; `anchor` as in Pillow: l, m, r for the side and s for the baseline."""
        # Aileron comes in one weight: a thin stroke makes the other.
        self.pen.text(at, text, ink, font(size), anchor=anchor, stroke_width=size / 45 if bold else 0, stroke_fill=ink)
        self.written.append(text)

    def lines(self, at: tuple[int, int], texts: Iterable[str], size: int, *, leading: float = 1.5) -> int:
        """Writes a paragraph and returns the next baseline."""
        x, y = at
        for text in texts:
            self.text((x, y), text, size)
            y += round(size * leading)
        return y

    def rule(self, x: tuple[int, int], y: int, *, width: int = 2, ink: Colour = INK) -> None:
        self.pen.line((x[0], y, x[1], y), ink, width)


@dataclass(frozen=True)
class Sale:
    """What was sold: quantity, name and unit price of each line."""

    lines: tuple[tuple[int, str, Decimal], ...]
    tax_percent: Decimal

    @property
    def net(self) -> Decimal:
        return sum((quantity * price for quantity, _, price in self.lines), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return (self.net * self.tax_percent / 100).quantize(CENT)

    @property
    def total(self) -> Decimal:
        return self.net + self.tax


INVOICE = Sale(
    lines=(
        (6, "Bench microscope, 40x to 400x", Decimal("184.50")),
        (12, "Replacement LED lamp, 12 V", Decimal("9.75")),
        (20, "Glass slides, box of 72", Decimal("4.20")),
        (3, "Calibration on site, per hour", Decimal("62.00")),
    ),
    tax_percent=Decimal(20),
)
RECEIPT = Sale(
    lines=(
        (2, "Flat white", Decimal("4.50")),
        (1, "Blueberry muffin", Decimal("3.75")),
        (1, "Tomato soup", Decimal("7.50")),
        (1, "Still water", Decimal("3.00")),
    ),
    tax_percent=Decimal(8),
)


def invoice() -> list[Sheet]:
    """An A4 page at 200 dots per inch."""
    sheet = Sheet(1654, 2339)
    left, right = 150, 1504
    sheet.text((left, 235), "Northmoor Instruments Ltd", 52, bold=True)
    sheet.lines((left, 300), ("14 Tannery Lane, Leeds LS2 7AP", "VAT number 318 4406 27"), 32, leading=1.4)
    sheet.text((right, 235), "INVOICE", 52, anchor="rs", ink=GREY)
    sheet.rule((left, right), 395)
    sheet.lines(
        (left, 475), ("Customer", "Calder Valley School", "Science Department", "Mill Road, Hebden HX7 2PL"), 30
    )
    facts = (("Invoice number", "NM-2026-0147"), ("Invoice date", "12 March 2026"), ("Payment due", "11 April 2026"))
    for row, (label, value) in enumerate(facts):
        sheet.text((930, 475 + row * 45), label, 30, ink=GREY)
        sheet.text((right, 475 + row * 45), value, 30, anchor="rs")
    y = 800
    columns = (
        (left, "ls", "Description"),
        (960, "rs", "Quantity"),
        (1240, "rs", "Unit price"),
        (right, "rs", "Amount"),
    )
    for x, anchor, title in columns:
        sheet.text((x, y), title, 30, anchor=anchor, bold=True)
    sheet.rule((left, right), y + 25)
    for quantity, name, price in INVOICE.lines:
        y += 80
        cells = (name, str(quantity), f"{price:,.2f}", f"{quantity * price:,.2f}")
        for (x, anchor, _), cell in zip(columns, cells, strict=True):
            sheet.text((x, y), cell, 30, anchor=anchor)
        sheet.rule((left, right), y + 30, width=1, ink=(205, 208, 212))
    sums = (("Subtotal", INVOICE.net), (f"VAT {INVOICE.tax_percent}%", INVOICE.tax), ("Total due, GBP", INVOICE.total))
    for row, (label, amount) in enumerate(sums):
        last = row == len(sums) - 1
        sheet.text((930, y + 130 + row * 65), label, 34 if last else 30, bold=last)
        sheet.text((right, y + 130 + row * 65), f"{amount:,.2f}", 34 if last else 30, anchor="rs", bold=last)
    sheet.text((left, 2140), "Please pay within 30 days to sort code 00-00-00, account 01234567.", 28, ink=GREY)
    return [sheet]


def receipt() -> list[Sheet]:
    """A till receipt as the till printed it; `photographed` makes the picture of it."""
    sheet = Sheet(820, 1280, paper=(250, 249, 245))
    for y, text, size in (
        (110, "BLUE HERON CAFE", 58),
        (170, "27 Quay Street", 34),
        (218, "Portland, Maine 04101", 34),
    ):
        sheet.text((410, y), text, size, anchor="ms", bold=size > 50)
    sheet.text((60, 310), "Order 5182", 34)
    sheet.text((760, 310), "2026-05-09 13:42", 34, anchor="rs")
    sheet.rule((60, 760), 345)
    y = 345
    for quantity, name, price in RECEIPT.lines:
        y += 72
        sheet.text((60, y), f"{quantity} {name}", 40)
        sheet.text((760, y), f"{quantity * price:.2f}", 42, anchor="rs", bold=True)
    sheet.rule((60, 760), y + 40)
    y += 110
    for label, amount in (("Subtotal", RECEIPT.net), (f"Tax {RECEIPT.tax_percent}%", RECEIPT.tax)):
        sheet.text((410, y), label, 40)
        sheet.text((760, y), f"{amount:.2f}", 42, anchor="rs", bold=True)
        y += 66
    sheet.text((320, y + 20), "TOTAL USD", 52, bold=True)
    sheet.text((760, y + 20), f"{RECEIPT.total:.2f}", 52, anchor="rs", bold=True)
    sheet.text((60, y + 105), "Paid by card", 34)
    sheet.text((410, 1210), "Thank you, come again", 34, anchor="ms")
    return [sheet]


def delivery_note() -> list[Sheet]:
    """Three pages from an office scanner that knows black and white only."""
    pages = []
    bodies = (
        (
            "DELIVERY NOTE",
            (
                "Note number DN-30418",
                "Date 17 June 2026",
                "Deliver to Elm House, 8 Park Row, Bristol",
                "Carrier Severn Freight",
                "Cartons 9",
            ),
        ),
        (
            "PACKING LIST",
            ("4 oak desks, cartons 1-4", "4 desk lamps, carton 5", "8 chairs, cartons 6-9", "Gross weight 212 kg"),
        ),
        (
            "PROOF OF DELIVERY",
            ("Received 18 June 2026 at 09:15", "Received by T. Hargreave", "Condition: one chair scratched"),
        ),
    )
    for number, (title, body) in enumerate(bodies, start=1):
        sheet = Sheet(1240, 1754)
        sheet.text((120, 190), "Orchard Street Furniture", 46, bold=True)
        sheet.rule((120, 1120), 225, width=3)
        sheet.text((120, 340), title, 54, bold=True)
        sheet.lines((120, 470), body, 38, leading=1.9)
        sheet.text((620, 1660), f"Page {number}", 38, anchor="ms")
        sheet.image = sheet.image.convert("1", dither=Image.Dither.NONE)
        pages.append(sheet)
    return pages


def letter() -> list[Sheet]:
    """A letter, kept as a telephone keeps pictures: HEIC."""
    sheet = Sheet(1240, 1754, paper=(253, 252, 248))
    sheet.text((150, 200), "Lindqvist and Rowe", 48, bold=True)
    sheet.text((150, 250), "Chartered Surveyors, 5 Castle Terrace, Edinburgh", 28, ink=GREY)
    sheet.lines((150, 400), ("3 February 2026", "Reference LR/2026/88"), 32)
    sheet.lines((150, 560), ("Dear Mrs Abernathy,",), 34)
    paragraph = (
        "We inspected the house at 19 Glebe Street on Friday,",
        "30 January 2026. The roof is sound. The gutter on the",
        "north side leaks and should be replaced before winter.",
        "We estimate the cost of the work at 1,450 pounds.",
    )
    y = sheet.lines((150, 650), paragraph, 34, leading=1.7)
    sheet.lines((150, y + 60), ("Yours sincerely,", "Ingrid Lindqvist"), 34, leading=2.6)
    return [sheet]


def shelf_label() -> list[Sheet]:
    """What hangs under the goods in a shop; an old label printer stores BMP."""
    sheet = Sheet(640, 400, paper=(255, 222, 66))
    sheet.text((40, 80), "Ground coffee 250 g", 44, bold=True)
    sheet.text((40, 200), "$6.49", 80, bold=True)
    sheet.text((40, 300), "$25.96 per kg", 34)
    sheet.text((40, 360), "Item 4017726", 28)
    return [sheet]


def flyer() -> list[Sheet]:
    """A flyer as it goes to a printer: CMYK."""
    sheet = Sheet(900, 1200, paper=(18, 74, 92))
    cream, sun = (255, 246, 225), (255, 196, 61)
    sheet.pen.ellipse((560, -140, 1040, 340), sun)
    for y, text, size, ink in (
        (480, "Spring Fair", 130, cream),
        (600, "Saturday 18 April 2026", 54, sun),
        (680, "10:00 to 16:00", 54, cream),
        (880, "Millbrook Town Hall", 48, cream),
        (950, "Bread, plants, books and music", 40, cream),
        (1090, "Free entry", 60, sun),
    ):
        sheet.text((80, y), text, size, bold=size > 50, ink=ink)
    sheet.image = sheet.image.convert("CMYK")
    return [sheet]


def ticket() -> list[Sheet]:
    """A railway ticket from a flatbed scanner with 16 bits of grey; the paper is darker towards the right."""
    sheet = Sheet(1200, 560)
    sheet.text((60, 100), "Coastline Railways", 46, bold=True)
    sheet.text((1140, 100), "SINGLE", 46, anchor="rs")
    sheet.rule((60, 1140), 135, width=3)
    sheet.lines((60, 220), ("Aldport to Fernbay", "21 July 2026, departs 08:52", "Coach C, seat 42"), 44, leading=1.6)
    sheet.text((60, 490), "Fare EUR 18.60", 44, bold=True)
    sheet.text((1140, 490), "T-7731-904", 44, anchor="rs")
    levels = sheet.image.convert("L")
    shades = Image.new("I", levels.size)
    for x in range(levels.width):
        column = levels.crop((x, 0, x + 1, levels.height)).convert("I")
        shades.paste(column.point(lambda level, x=x: level * (235 - x / 20) + 4000), (x, 0))
    sheet.image = shades.convert("I;16")
    return [sheet]


DOCUMENTS: dict[str, Callable[[], list[Sheet]]] = {
    "invoice.png": invoice,
    "receipt.jpg": receipt,
    "delivery-note.tif": delivery_note,
    "letter.heic": letter,
    "shelf-label.bmp": shelf_label,
    "flyer-cmyk.jpg": flyer,
    "ticket-16bit.png": ticket,
}
