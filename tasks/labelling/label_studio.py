"""Label Studio: its exports as labels, and rows as tasks with predictions.

The format: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions. Boxes are in percent of
the image; one prediction holds them all, for only one is shown at a time. A field is a control tag of its name: Choices
for a closed set, RectangleLabels for boxes, and TextArea for everything else; an item of a list is a line, as JSON.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tasks.errors import TruthError

Region = Mapping[str, Any]


def is_export(value: Any) -> bool:
    """Whether it is a list of tasks."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "data" in one for one in value)


def labels_of_tasks(tasks: Iterable[Mapping[str, Any]], file: str) -> Iterator[tuple[str, int, dict[str, Any], int]]:
    """Image, page, fields and number of each task that a person has annotated. Raises TruthError.

    The last annotation counts that was not cancelled; a prediction is no label.
    """
    for number, task in enumerate(tasks, start=1):
        place = f"{file} task {number}"
        done = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        if not done:
            continue
        data = task["data"] if isinstance(task["data"], dict) else {}
        image = data.get("uri") or data.get("image") or next((v for v in data.values() if isinstance(v, str)), None)
        if not isinstance(image, str):
            raise TruthError(f"{place}, data: it names no image. Give `image` in the task's data.")
        try:
            fields = fields_of_regions(done[-1].get("result") or ())
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TruthError(f"{place}, annotations: a result has another form ({error!r}). Export as JSON.") from None
        yield image_of(image), int(data.get("page") or 1), fields, number


def image_of(url: str) -> str:
    """The path of an image that Label Studio serves from a local folder, or that was uploaded to it."""
    parts = urlsplit(url)
    if parts.path.endswith("/data/local-files/"):
        return "/" + parse_qs(parts.query).get("d", [""])[0].lstrip("/")
    if "/data/upload/" in parts.path:
        name = parts.path.rpartition("/")[2]
        return name.partition("-")[2] or name  # eight letters stand before the file's own name
    return url


def fields_of_regions(regions: Iterable[Region]) -> dict[str, Any]:
    """The value of each control tag; boxes in pixels of the original."""
    fields: dict[str, Any] = {}
    for region in regions:
        name, kind, value = str(region["from_name"]), region.get("type"), region["value"]
        if kind == "rectanglelabels":
            fields.setdefault(name, []).append(_box_item(region))
        elif kind == "choices":
            fields[name] = value["choices"][0] if len(value["choices"]) == 1 else list(value["choices"])
        elif kind == "textarea":
            text = value["text"]
            fields[name] = _typed_lines([text] if isinstance(text, str) else list(text))
        elif kind in ("number", "rating", "datetime"):
            fields[name] = value[kind]
    return fields


def _box_item(region: Region) -> dict[str, Any]:
    value, width, height = region["value"], region["original_width"], region["original_height"]
    left, top = value["x"] * width / 100, value["y"] * height / 100
    right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
    box = {"left": left, "top": top, "right": right, "bottom": bottom}
    named = region["value"].get("rectanglelabels") or [None]
    return {"label": named[0], "box": box, **(region.get("meta") or {})}


def _typed_lines(lines: list[str]) -> Any:
    """One line as it is, unless it is the JSON of a list; several, or objects, as the items of a list."""
    parsed = [_parsed(line) for line in lines]
    if len(parsed) == 1 and not isinstance(parsed[0], dict):
        return parsed[0]
    return parsed


def _parsed(line: str) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    return value if isinstance(value, dict | list) else line
