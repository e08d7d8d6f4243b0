"""Files of labels: JSON lines, CSV, Parquet, a folder of NAME.json, or an export of Label Studio.

A label has a column `image`, a column `page` where files have several, and a column a field; `seller.name` is a field
of a field. What is there is held against the schema and the images before anything is asked, and whatever is wrong is
said with file, row and field.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.errors import TruthError, UsageError
from tasks.labelling.label_studio import is_export, labels_of_tasks
from tasks.labelling.typing import Misfit, typing_of
from tasks.schemas.tree import Node
from tasks.storage.output import explain_storage
from tasks.storage.reading import NotAFile, open_file
from tasks.storage.s3 import is_s3
from tasks.text import as_utf8
from tasks.types import Source

MOST_BYTES = 1_000_000_000
IMAGE_COLUMNS = ("image", "uri", "path", "file", "filename", "name")
# Columns of our own exports that are no fields, unless the schema says so.
BESIDE = ("page", "name", "status", "error", "needs_review", "model", "preset", "differ", "answers")
PLAIN = "answer"  # the one field of answers without a schema


@dataclass(frozen=True)
class Label:
    """What a person says is right of one page, and where it stands."""

    image: str
    page: int
    fields: Mapping[str, Any]
    place: str


@dataclass(frozen=True)
class Truth:
    """Typed labels by image and page, and the positions in the listing of the images that have one."""

    labels: Mapping[tuple[str, int], Mapping[str, Any]]
    positions: Sequence[int] = field(repr=False)


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


def read_truth(path: str) -> list[Label]:
    """Every label of a file or folder as it is written. Raises UsageError if there is none, or TruthError."""
    if is_s3(path):
        raise UsageError(f"--truth: labels are read from this machine alone. Copy {path} here first.")
    place = Path(path).expanduser()
    try:
        labels = list(_folder(place) if place.is_dir() else _file(place))
    except (NotAFile, OSError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = f"There is no {path}. Check --truth." if missing else explain_storage(error, path, "read")
        raise UsageError(f"--truth: {why}") from None
    if not labels:
        raise TruthError(f"{path} holds no label. Give it a row an image: `image` and a column a field.")
    return labels


def fit_truth(labels: Sequence[Label], images: Sequence[Source], root: Node | None, truth: str) -> Truth:
    """The labels with values in the schema's types, by image; without a schema the one field is the text.

    Raises TruthError for a label of no image, of one that has a label already, or that no right answer could fit, and
    where none has a field.
    """
    names = Names(images, Path(truth).expanduser().parent)
    typing = typing_of(root, [_of_schema(label, root) for label in labels]) if root else None
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    places: dict[tuple[str, int], str] = {}
    positions: set[int] = set()
    for label in labels:
        position = _position(label, names)
        key = (images[position].uri, label.page)
        if key in places:
            raise TruthError(f"{label.place}, image: {label.image!r} has a label already, in {places[key]}. Keep one.")
        places[key] = label.place
        positions.add(position)
        try:
            given = _of_schema(label, root)
            found[key] = typing.value(root, given) if typing and root else {PLAIN: given.get(PLAIN)}
        except Misfit as error:
            raise TruthError(f"{label.place}, {error.field}: {error}.") from None
    if not any(found.values()):
        raise TruthError(f"{truth} names images, but no field of theirs. Give it a column a field.")
    return Truth(found, sorted(positions))


def _position(label: Label, names: Names) -> int:
    """Of the label's image. Raises TruthError."""
    positions = names.positions(label.image)
    if len(positions) == 1:
        return next(iter(positions))
    image = as_utf8(label.image)
    if positions:
        raise TruthError(
            f"{label.place}, image: {image!r} may be any of {len(positions)} images of SOURCE. Give its path."
        )
    raise TruthError(f"{label.place}, image: there is no {image!r} in SOURCE. Check its name.")


def _of_schema(label: Label, root: Node | None) -> dict[str, Any]:
    """The label's fields; what stands beside them in our own exports is left out."""
    known = {child.name for child in root.properties} if root else set()
    kept = {name: one for name, one in label.fields.items() if name in known or name not in BESIDE}
    if root is not None:
        return kept
    if len(kept) != 1:
        names = ", ".join(kept) or "none"
        raise TruthError(f"{label.place}: without a schema a label has one field, the text (there are: {names}).")
    return {PLAIN: next(iter(kept.values()))}


def _file(path: Path) -> Iterator[Label]:
    kind = path.suffix.lower()
    if kind not in READERS:
        raise UsageError(
            f"--truth: {path} is no file of labels. Take .jsonl, .csv, .parquet, a folder of NAME.json, or a Label "
            "Studio export (.json)."
        )
    with open_file(path) as file:
        if file.seek(0, 2) > MOST_BYTES:
            raise TruthError(f"{path} has more than {MOST_BYTES / 1e9:.0f} GB. Give a sample of labels.")
    yield from READERS[kind](path)


def _folder(path: Path) -> Iterator[Label]:
    for file in sorted(path.glob("*.json")):
        yield Label(file.name.removesuffix(".json"), 1, _object(_json(_text(file), str(file)), str(file)), str(file))


def _lines(path: Path) -> Iterator[Label]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path} row {number}"
            yield _label(_object(_json(line, place), place), place)


def _csv(path: Path) -> Iterator[Label]:
    import pandas as pd

    try:
        with open_file(path) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeError) as error:  # pandas' own errors are ValueErrors
        raise TruthError(f"{path} cannot be read as CSV ({' '.join(str(error).split())[:200]}). Mend it.") from None
    for number, row in enumerate(table.to_dict("records"), start=2):  # the header is row 1
        yield _label({str(name): value or None for name, value in row.items()}, f"{path} row {number}")


def _parquet(path: Path) -> Iterator[Label]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path) as file:
            rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise TruthError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())[:200]}).") from None
    for number, row in enumerate(rows, start=1):
        yield _label(row, f"{path} row {number}")


def _json_file(path: Path) -> Iterator[Label]:
    tasks = _json(_text(path), str(path))
    if is_export(tasks):
        for image, page, fields, number in labels_of_tasks(tasks, str(path)):
            yield Label(image, page, fields, f"{path} task {number}")
    elif isinstance(tasks, list):
        for number, row in enumerate(tasks, start=1):
            yield _label(_object(row, f"{path} row {number}"), f"{path} row {number}")
    else:
        raise TruthError(f"{path} is no Label Studio export, which is a list of tasks. Export as JSON.")


READERS = {".jsonl": _lines, ".ndjson": _lines, ".csv": _csv, ".parquet": _parquet, ".json": _json_file}


def _label(row: Mapping[str, Any], place: str) -> Label:
    column = next((name for name in IMAGE_COLUMNS if row.get(name) is not None), None)
    if column is None:
        there = ", ".join(map(str, row)) or "nothing"
        raise TruthError(f"{place}, image: it names no image. Give the column `image` (there is: {there}).")
    page = row.get("page")
    try:
        number = 1 if page is None else int(page)
    except (TypeError, ValueError, OverflowError):
        number = 0
    if number < 1:
        raise TruthError(f"{place}, page: {page!r} is no page number. Write 1 for the first.")
    fields = {str(name): value for name, value in row.items() if name not in (column, "page")}
    return Label(str(row[column]), number, _nested(fields, place), place)


def _nested(fields: Mapping[str, Any], place: str) -> dict[str, Any]:
    """`seller.name` as the field `name` of `seller`."""
    found: dict[str, Any] = {}
    for path, value in fields.items():
        *above, name = path.split(".")
        inner = found
        for one in above:
            inner = inner.setdefault(one, {})
            if not isinstance(inner, dict):
                raise TruthError(f"{place}, {path}: {one} is a field itself. Name the one or the other.")
        inner[name] = value
    return found


def _text(path: Path) -> str:
    with open_file(path) as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TruthError(f"{path} row {line} is no UTF-8. Save it as UTF-8.") from None


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TruthError(f"{place} is no JSON ({' '.join(str(error).split())[:120]}). Mend it.") from None


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TruthError(f'{place} is no object of fields. Write {{"image": ..., "total": ...}}.')
    return value
