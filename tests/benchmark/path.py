"""The modules that one image passes, from its listing to its written row: `python -m tests.benchmark.path`.

A module counts where a function of it is called with the image, in whatever form it has there, or gives it back: as a
file, a chunk, a prepared image, a page, an outcome, an answer or a row. What the child process does with its bytes is
not seen from here.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.simulator import Simulator
from tests.runs import ROOT, picture

FORMS = {"Source", "Chunk", "PreparedChunk", "PreparedFile", "PreparedImage", "Page", "Outcome", "Answer"}
ROOMS = ("config", "flows", "tasks")


class Way:
    """Notes modules in the order in which the image enters them."""

    def __init__(self) -> None:
        self.entered: dict[str, str] = {}

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """One call or return, as `sys.setprofile` tells it."""
        if event not in ("call", "return") or frame.f_code.co_name.startswith("<"):
            return
        module = _module(frame.f_code.co_filename)
        if module is None or module in self.entered:
            return
        held = [value] if event == "return" else list(frame.f_locals.values())
        if any(map(is_image, held)):
            self.entered[module] = frame.f_code.co_qualname


def is_image(value: Any, depth: int = 2) -> bool:
    """Whether a value is the image in one of its forms, or holds it at its first place."""
    if type(value).__name__ in FORMS:
        return True
    if isinstance(value, Mapping):
        return "image" in value and "status" in value
    if isinstance(value, list | tuple) and value and depth:
        return any(is_image(one, depth - 1) for one in value[:2])
    return False


def _module(file: str) -> str | None:
    """The module's path; None for one that is not ours, or that only looks at rows that are written."""
    if not file.startswith(str(ROOT)) or not file.endswith(".py"):
        return None
    path = Path(file).relative_to(ROOT)
    return str(path) if path.parts[0] in ROOMS and not {"simulator", "reporting"} & set(path.parts) else None


def passed() -> Iterator[tuple[str, str]]:
    """Each module with the function by which a picture of 4,000 pixels enters it first."""
    path = Way()
    with tempfile.TemporaryDirectory() as folder, Simulator(ocr=False) as simulator:
        os.environ |= {"VISIONFLOW_HOME": f"{folder}/home", "ANTHROPIC_BASE_URL": simulator.url}
        os.environ |= {"ANTHROPIC_API_KEY": "simulated", "PREFECT_HOME": f"{folder}/prefect"}
        Path(folder, "photo.jpg").write_bytes(picture(1, (4000, 3000)))
        from flows import analyze_images

        threading.setprofile(path)
        sys.setprofile(path)
        try:
            analyze_images(f"{folder}/photo.jpg", f"{folder}/out", {"answer_schema": "document"})
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    yield from path.entered.items()


def main() -> None:
    """Print them, in order."""
    for number, (module, function) in enumerate(passed(), start=1):
        print(f"{number:3} {module:40} {function}")


if __name__ == "__main__":
    main()
