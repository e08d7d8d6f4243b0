"""`python -m tests.benchmark.preparing FOLDER`: how fast images are prepared, and how good they look, beside Pillow.

FOLDER holds photographs or scans (JPEG) to judge quality by; where `name.key.json` lies beside `name.jpg`, the words of
its values are looked for in what the local OCR engine reads. Without FOLDER only speed is measured.
"""

import argparse
import asyncio
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median, quantiles

import numpy
from numpy.typing import NDArray
from PIL import Image, ImageOps

from config.presets import preset, preset_names
from tasks.preparing import image_header, planned_size, prepare_image
from tasks.preparing.decoding import decode
from tasks.preparing.encoding import Raster, encode
from tasks.simulator.ocr import Reader, model_folder
from tasks.types import ImageRules
from tests.benchmark.images import make_photos
from tests.benchmark.measuring import spread, table

ROUNDS = 5
BATCH = 16  # images of one round through all cores
CORES = len(os.sched_getaffinity(0))
LAG_SECONDS = 4.0
READY_PER_SECOND = 200
TICK_SECONDS = 0.002
PHONE_EDGE, PHONE_QUALITY = 4032, 90
WINDOW = 8  # side of SSIM's window in pixels, as in the paper (Wang et al. 2004, without the Gaussian)

Pixels = NDArray[numpy.float64]


def rules_of(name: str) -> ImageRules:
    """The preset with the limits of a high-resolution model."""
    chosen = preset(name)
    return ImageRules(chosen.max_edge, chosen.quality, model_edge=2576, model_tokens=4784)


def plain_pillow(data: bytes, rules: ImageRules) -> bytes:
    """Pillow at its fastest: thumbnail asks the JPEG decoder for less, which it could not do after a turn."""
    image = Image.open(io.BytesIO(data))
    image.thumbnail((rules.max_edge, rules.max_edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    ImageOps.exif_transpose(image).save(buffer, "JPEG", quality=rules.quality)
    return buffer.getvalue()


def careful_pillow(data: bytes, rules: ImageRules) -> bytes:
    """Pillow at its best and slowest: every pixel decoded, Lanczos over all of them, encoded as ours is."""
    size = planned_size(*ImageOps.exif_transpose(Image.open(io.BytesIO(data))).size, rules)
    raster = Raster(full_decode(data, size), "JPEG", size)
    return encode(raster, rules, page=1).data


def full_decode(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture that shrinking should come closest to."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).resize(size, Image.Resampling.LANCZOS)


# Speed


def show_speed(photos: dict[str, bytes]) -> None:
    """CPU of one image on one core, and images a second through every core, of Pillow and of ours in turns."""
    rows = []
    for label, data in photos.items():
        for name in preset_names():
            rules, source_format = rules_of(name), image_header(data).format
            pillow, ours = in_turns(
                lambda: cpu_ms(lambda: plain_pillow(data, rules)),  # noqa: B023 - called at once
                lambda: cpu_ms(lambda: decode(data, source_format, rules)),  # noqa: B023
            )
            threads, pool = in_turns(
                lambda: per_second(lambda: plain_pillow(data, rules)),  # noqa: B023
                lambda: per_second(lambda: prepare_image(data, rules)),  # noqa: B023
            )
            cells = f"{min(pillow):.0f}", f"{min(ours):.0f}", f"{min(ours) / min(pillow):.2f}"
            rows.append((f"{label}, {name}", *cells, spread(threads), spread(pool)))
    header = ("image, preset", "Pillow CPU ms", "ours CPU ms", "ratio", f"Pillow/s, {CORES} threads", "ours/s, pool")
    print(table(header, rows))


def in_turns(*ways: Callable[[], float]) -> list[list[float]]:
    """Each way's figures of several rounds: what else the machine does falls on all alike."""
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, values in zip(ways, found, strict=True):
            values.append(way())
    return found


def cpu_ms(work: Callable[[], object]) -> float:
    """Processor time of this process."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


def per_second(work: Callable[[], object]) -> float:
    """Images a second with a thread more than there are cores, so that none waits for the next image."""
    with ThreadPoolExecutor(CORES + 1) as threads:
        started = time.monotonic()
        for done in [threads.submit(work) for _ in range(BATCH)]:
            done.result()
        return BATCH / (time.monotonic() - started)


def show_passing_through(data: bytes) -> None:
    """What an image costs that is sent as it is."""
    rules, count = rules_of("ocr"), 200
    cost = min(cpu_ms(lambda: [prepare_image(data, rules) for _ in range(count)]) / count for _ in range(ROUNDS))
    print(f"A JPEG of {len(data) / 1e3:.0f} kB that fits, checked, stripped and hashed: {cost:.2f} ms")


# The event loop


def show_loop_lag(small: bytes, large: bytes) -> None:
    """How late a tick of the process's event loop comes while its threads prepare."""
    rules = rules_of("ocr")
    rows = [("nothing", *lag(lambda: time.sleep(0.01), threads=1))]

    def paced() -> None:
        prepare_image(small, rules)
        time.sleep(4 / READY_PER_SECOND)

    rows.append((f"{READY_PER_SECOND}/s that fit", *lag(paced, threads=4)))
    rows.append(("as many as can be that fit", *lag(lambda: prepare_image(small, rules), threads=4)))
    rows.append(("12 megapixels, 8 threads", *lag(lambda: prepare_image(large, rules), threads=8)))
    print(table(("while preparing", "images/s", "lag median ms", "99 % ms", "worst ms"), rows))


def lag(work: Callable[[], object], *, threads: int) -> tuple[str, str, str, str]:
    """Images a second, and the median, 99th percentile and maximum of the ticks' delay in milliseconds."""
    counts, done = [0] * threads, False

    def repeat(place: int) -> None:
        while not done:
            work()
            counts[place] += 1

    async def tick() -> list[float]:
        late = []
        end = time.monotonic() + LAG_SECONDS
        while (due := time.monotonic() + TICK_SECONDS) < end:
            await asyncio.sleep(TICK_SECONDS)
            late.append((time.monotonic() - due) * 1e3)
        return late

    with ThreadPoolExecutor(threads) as pool:
        for place in range(threads):
            pool.submit(repeat, place)
        late = asyncio.run(tick())
        done = True
    rate = sum(counts) / LAG_SECONDS
    return f"{rate:.0f}", f"{median(late):.1f}", f"{quantiles(late, n=100)[-1]:.1f}", f"{max(late):.1f}"


# Quality


def show_quality(files: list[Path]) -> None:
    """SSIM of what is sent, against a full decode at that size before it is encoded; of files that are shrunk."""
    rows = []
    for name in preset_names():
        rules = rules_of(name)
        shrunk = [data for data in map(Path.read_bytes, files) if is_shrunk(data, rules)]
        if not shrunk:
            continue
        scores: dict[Callable[[bytes, ImageRules], bytes], list[float]] = {careful_pillow: [], ours: []}
        kilobytes: dict[Callable[[bytes, ImageRules], bytes], list[float]] = {careful_pillow: [], ours: []}
        for data in shrunk:
            for way, found in scores.items():
                sent = way(data, rules)
                image = Image.open(io.BytesIO(sent))
                found.append(ssim(luma(full_decode(data, image.size)), luma(image)))
                kilobytes[way].append(len(sent) / 1e3)
        cells = [f"{mean(found):.4f} ({min(found):.4f})" for found in scores.values()]
        rows.append((name, str(len(shrunk)), *cells, *(f"{mean(sizes):.0f}" for sizes in kilobytes.values())))
    print(table(("preset", "images", "Pillow mean (least)", "ours mean (least)", "Pillow kB", "ours kB"), rows))


def show_words(files: list[Path]) -> None:
    """Words of the receipts' known values that the OCR engine finds in what is sent."""
    folder = model_folder()
    known = {path: known_words(path) for path in files if path.with_suffix(".key.json").is_file()}
    if folder is None or not known:
        print("Words: not counted; that needs the OCR engine (visionflow[ocr]) and files with `name.key.json`.")
        return
    rows, total = [], sum(map(len, known.values()))
    with reading(folder) as read:
        for label, taken in (("as they are", Path.read_bytes), ("as phones take them", as_a_phone_takes_it)):
            files_of = {path: taken(path) for path in known}
            for name in preset_names():
                rules = rules_of(name)
                cells = []
                for way in (careful_pillow, ours):
                    found = [len(words & set(split(read(way(files_of[path], rules))))) for path, words in known.items()]
                    cells.append(str(sum(found)))
                rows.append((f"{name}, {label}", str(len(known)), str(total), *cells))
    print(table(("preset", "images", "words", "read from Pillow's", "read from ours"), rows))


def as_a_phone_takes_it(path: Path) -> bytes:
    """The picture with a longer side of 4032 pixels, which a JPEG decoder halves to nearly what `ocr` sends."""
    image = Image.open(path).convert("RGB")
    scale, buffer = PHONE_EDGE / max(image.size), io.BytesIO()
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=PHONE_QUALITY)
    return buffer.getvalue()


def ours(data: bytes, rules: ImageRules) -> bytes:
    """The first page that visionflow sends."""
    return prepare_image(data, rules)[0].data


def is_shrunk(data: bytes, rules: ImageRules) -> bool:
    """Whether the file is larger than what is sent."""
    header = image_header(data)
    return planned_size(header.width, header.height, rules) != (header.width, header.height)


def known_words(path: Path) -> set[str]:
    """The words that stand in the image, as far as somebody wrote them down."""
    return set(
        split(" ".join(map(str, json.loads(path.with_suffix(".key.json").read_text(encoding="utf-8")).values())))
    )


def split(text: str) -> list[str]:
    """Words and numbers, in capitals."""
    return re.findall(r"[A-Z0-9][A-Z0-9.,/&-]*[A-Z0-9]|[A-Z0-9]", text.upper())


@contextmanager
def reading(folder: Path) -> Iterator[Callable[[bytes], str]]:
    """Read images one after the other."""
    reader = Reader(folder, 1)
    with asyncio.Runner() as runner:
        yield lambda data: runner.run(reader.read(str(hash(data)), data))
    reader.close()


def luma(image: Image.Image) -> Pixels:
    """Brightness, in which SSIM is measured."""
    return numpy.asarray(image.convert("L"), dtype=numpy.float64)


def ssim(one: Pixels, other: Pixels) -> float:
    """Structural similarity: 1 for the same picture."""
    first, second = windows(one), windows(other)
    squares = windows(one * one) - first * first, windows(other * other) - second * second
    both = windows(one * other) - first * second
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * first * second + light) * (2 * both + contrast)
    below = (first * first + second * second + light) * (squares[0] + squares[1] + contrast)
    return float((above / below).mean())


def windows(values: Pixels) -> Pixels:
    """The mean of every window."""
    sums = numpy.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    n = WINDOW
    means: Pixels = (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2
    return means


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    folder = parser.parse_args().folder
    os.environ["VIPS_CONCURRENCY"] = "1"  # as in the children
    with tempfile.TemporaryDirectory() as made:
        photos = {size: make_photos(Path(made) / size, 1, size)[0].read_bytes() for size in ("small", "large", "phone")}
    show_speed({"12 megapixels": photos["phone"], "3000 x 2200": photos["large"]})
    show_passing_through(photos["small"])
    show_loop_lag(photos["small"], photos["phone"])
    if folder:
        files = sorted(folder.glob("*.jpg"))
        show_quality(files)
        show_words(files)


if __name__ == "__main__":
    main()
