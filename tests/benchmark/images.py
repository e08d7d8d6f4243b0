"""Images made on the fly: every file has pixels of its own, so that nobody is spared a call."""

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZES = {"small": (1200, 900), "large": (3000, 2200), "phone": (4032, 3024)}
QUALITY = 85
NOISE = 12  # with QUALITY, 1200 x 900 pixels take about 215 KB, as a photograph's do
BLOCK = 24
TINY = 56
PER_FOLDER = 1000


def make_photos(folder: Path, count: int, size: str, *, start: int = 0) -> list[Path]:
    """`count` JPEGs of one of SIZES: grainy, with shapes, each with blocks that no other number has."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = _scene(SIZES[size])
    paths = []
    for number in range(start, start + count):
        image = scene.copy()
        _mark(image, number)
        path = folder / f"p{number:06}.jpg"
        image.save(path, quality=QUALITY)
        paths.append(path)
    return paths


def make_tiny(folder: Path, count: int, *, start: int = 0) -> Path:
    """`count` PNGs of 56 x 56 pixels, a thousand a folder."""
    for number in range(start, start + count):
        image = Image.new("RGB", (TINY, TINY), "white")
        _mark(image, number)
        place = folder / f"{number // PER_FOLDER:04}"
        if number == start or number % PER_FOLDER == 0:
            place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"t{number:07}.png", compress_level=1)
    return folder


def total_bytes(paths: list[Path]) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in paths)


def _scene(size: tuple[int, int]) -> Image.Image:
    """Large soft shapes under film grain: it compresses as a photograph does."""
    width, height = size
    chance = random.Random(5)
    image = Image.new("RGB", size, (180, 170, 150))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, r = chance.randrange(width), chance.randrange(height), chance.randrange(20, width // 6)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(chance.randrange(256) for _ in range(3)))
    soft = image.filter(ImageFilter.GaussianBlur(3))
    grain = Image.merge("RGB", [Image.effect_noise(size, NOISE)] * 3)
    return Image.blend(soft, grain, 0.5)


def _mark(image: Image.Image, number: int) -> None:
    """Write the number in blocks of plain colour, one for each byte: they survive any JPEG quality."""
    draw = ImageDraw.Draw(image)
    side = min(BLOCK, image.width // 4)
    for place, value in enumerate(number.to_bytes(4, "big")):
        for half, level in enumerate((value >> 4, value & 15)):
            x, y = place * side, half * side
            draw.rectangle((x, y, x + side - 1, y + side - 1), fill=(level * 16, 255 - level * 16, 128))
