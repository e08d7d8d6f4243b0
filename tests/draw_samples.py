"""Draws the documents of data/samples and writes expected.json, the text that stands in them.

    python -m tests.draw_samples data/samples

The only typeface is Aileron (CC0), which is part of Pillow, so every machine with the pinned Pillow draws the same
pixels. letter.heic and shipping-label.svg need `pip install pillow-heif fonttools`, in another environment if you like;
without these two they are left as they are.
"""

import importlib
import importlib.util
import json
import random
import sys
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image, ImageChops, ImageFilter, ImageFont

from tests.sample_documents import DOCUMENTS, INVOICE, RECEIPT


def photographed(paper: Image.Image) -> Image.Image:
    """The receipt on a wooden table: seen at an angle, lit from one side, with a camera's noise; 1200 x 1600."""
    size = (1200, 1600)
    chance = random.Random(2026)
    grain = Image.frombytes("L", (6, 500), chance.randbytes(3000)).resize(size, Image.Resampling.BICUBIC)
    picture = Image.merge("RGB", [grain.point(lambda v, base=base: base + v // 9) for base in (118, 82, 54)])
    # Where each point of the picture lies on the paper: turned by a degree, farther away at the top.
    view = (0.985, 0.02, -205.0, -0.02, 1.0, -130.0, 0.0, -0.00004)
    sheet = paper.transform(size, Image.Transform.PERSPECTIVE, view, Image.Resampling.BICUBIC)
    mask = Image.new("L", paper.size, 255).transform(size, Image.Transform.PERSPECTIVE, view, Image.Resampling.BICUBIC)
    shadow = ImageChops.offset(mask, 14, 18).filter(ImageFilter.GaussianBlur(16)).point(lambda v: v * 0.55)
    picture.paste((20, 14, 10), mask=shadow)
    picture.paste(sheet, mask=mask)
    light = Image.linear_gradient("L").rotate(90).resize(size).point(lambda v: 205 + v // 5)
    picture = ImageChops.multiply(picture, Image.merge("RGB", [light] * 3)).filter(ImageFilter.GaussianBlur(0.5))
    noise = Image.frombytes("L", size, chance.randbytes(size[0] * size[1])).point(lambda v: v // 28)
    return ImageChops.add(picture, Image.merge("RGB", [noise] * 3), scale=1, offset=-4)


def camera_exif() -> Image.Exif:
    """Held upright, so stored on its side; with a place, which must never leave the machine."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Examplephone"
    exif[ExifTags.Base.DateTime] = "2026:05:09 13:44:10"
    # 12 N 34 W, in the Atlantic: nobody's home.
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (12.0, 0.0, 0.0), 3: "W", 4: (34.0, 0.0, 0.0)})
    return exif


LABEL_SIZE = (900, 600)
LABEL = (
    (40, 90, 48, "FRAGILE"),
    (40, 160, 34, "From Kestrel Pottery, 3 Kiln Yard, Ludlow"),
    (40, 290, 40, "To Amara Osei"),
    (40, 345, 40, "61 Harbour View, Cork"),
    (40, 480, 34, "Weight 4.2 kg"),
    (40, 530, 34, "Parcel KP-2026-00519"),
)


def shipping_label() -> str:
    """An SVG whose letters are outlines, so that it looks the same on a machine without fonts."""
    ttfont = importlib.import_module("fontTools.ttLib").TTFont
    pen_class = importlib.import_module("fontTools.pens.svgPathPen").SVGPathPen
    file = ImageFont.load_default(10)
    assert isinstance(file, ImageFont.FreeTypeFont)
    assert isinstance(file.path, BytesIO)
    face = ttfont(BytesIO(file.path.getvalue()))
    glyphs, names, units = face.getGlyphSet(), face.getBestCmap(), face["head"].unitsPerEm
    width, height = LABEL_SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<title>Shipping label</title>",
        '<rect x="4" y="4" width="892" height="592" rx="18" fill="#fff" stroke="#111" stroke-width="4"/>',
        '<path d="M20 200H880M20 410H880" stroke="#111" stroke-width="2"/>',
        '<path d="M790 40h60l-10 50q-20 24-40 0zM820 102v50M795 152h50" fill="none" stroke="#b22" stroke-width="7"/>',
    ]
    for x, y, size, text in LABEL:
        scale, advance, letters = size / units, 0, []
        for character in text:
            glyph, pen = glyphs[names[ord(character)]], pen_class(glyphs)
            glyph.draw(pen)
            if pen.getCommands():
                letters.append(f'<path transform="translate({advance} 0)" d="{pen.getCommands()}"/>')
            advance += glyph.width
        parts.append(f'<g aria-label="{text}" transform="translate({x} {y}) scale({scale:.4f} {-scale:.4f})">')
        parts += [*letters, "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def drawn(name: str) -> list[Image.Image]:
    """The pages of one document, as they are before encoding."""
    pages = [sheet.image for sheet in DOCUMENTS[name]()]
    if name == "receipt.jpg":
        pages = [photographed(pages[0]).transpose(Image.Transpose.ROTATE_90)]
    if name == "shelf-label.bmp":
        pages = [pages[0].quantize(64)]
    return pages


def encoded(name: str) -> bytes:
    """The file's bytes."""
    first, *others = drawn(name)
    file = BytesIO()
    match name:
        case "receipt.jpg":
            first.save(file, "JPEG", quality=88, exif=camera_exif())
        case "flyer-cmyk.jpg":
            first.save(file, "JPEG", quality=90)
        case "delivery-note.tif":
            first.save(file, "TIFF", compression="group4", save_all=True, append_images=others, dpi=(150, 150))
        case "letter.heic":
            importlib.import_module("pillow_heif").from_pillow(first).save(file, quality=75)
        case _:
            first.save(file, Path(name).suffix[1:].upper())
    return file.getvalue()


def expected() -> dict[str, object]:
    """For each file the text of its pages, and for the two sales the facts a schema would ask for."""
    pages = {name: [sheet.written for sheet in draw()] for name, draw in DOCUMENTS.items()}
    pages["shipping-label.svg"] = [[text for *_, text in LABEL]]
    pages["invoice-copy.png"] = pages["invoice.png"]
    facts = {
        name: {"company": company, "date": date, "currency": currency, "tax": str(sale.tax), "total": str(sale.total)}
        for name, company, date, currency, sale in (
            ("invoice.png", "Northmoor Instruments Ltd", "2026-03-12", "GBP", INVOICE),
            ("receipt.jpg", "BLUE HERON CAFE", "2026-05-09", "USD", RECEIPT),
        )
    }
    return {
        name: {"pages": text, **({"facts": facts[name]} if name in facts else {})}
        for name, text in sorted(pages.items())
    }


def main(folder: Path) -> None:
    for name in DOCUMENTS:
        if name != "letter.heic" or importlib.util.find_spec("pillow_heif"):
            (folder / name).write_bytes(encoded(name))
    (folder / "invoice-copy.png").write_bytes((folder / "invoice.png").read_bytes())
    if importlib.util.find_spec("fontTools"):
        (folder / "shipping-label.svg").write_text(shipping_label(), encoding="utf-8")
    (folder / "expected.json").write_text(json.dumps(expected(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
