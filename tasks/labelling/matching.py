"""Which image of a listing a label means: by URI, by path, by its name below SOURCE, or by the last part of either."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tasks.storage.s3 import is_s3
from tasks.types import Source


class Names:
    """The images of a listing by everything that a label may call them; `folder` is where the labels lie."""

    def __init__(self, images: Sequence[Source], folder: Path) -> None:
        self._folder = folder
        self._exact: dict[str, int] = {}
        self._loose: dict[str, set[int]] = {}
        for position, source in enumerate(images):
            self._exact[source.uri] = position
            self._exact.setdefault(source.name, position)
            name = PurePosixPath(source.name)
            for loose in {name.name, name.stem, str(name.with_suffix(""))}:
                self._loose.setdefault(loose, set()).add(position)

    def position(self, image: str) -> int | None:
        """The position of the one image that is meant; None where there is none, or several have this last part."""
        found = self.positions(image)
        return next(iter(found)) if len(found) == 1 else None

    def positions(self, image: str) -> set[int]:
        """Of every image that may be meant: several where only the last part of the name fits, and fits several."""
        for candidate in self._candidates(image):
            if (position := self._exact.get(candidate)) is not None:
                return {position}
        return next((found for loose in _loosely(image) if (found := self._loose.get(loose))), set())

    def _candidates(self, image: str) -> Iterator[str]:
        yield image
        if is_s3(image):
            return
        path = image.removeprefix("file://")
        yield path.removeprefix("./")
        yield os.path.abspath(os.path.expanduser(path))
        yield os.path.abspath(self._folder / path)


def _loosely(image: str) -> Iterator[str]:
    """The last part, then without one ending after another: `000.key` of the file 000.key.json is of 000.jpg."""
    last = image.replace("\\", "/").rstrip("/").rpartition("/")[2]
    yield last
    while "." in last:
        last = last.rpartition(".")[0]
        yield last
