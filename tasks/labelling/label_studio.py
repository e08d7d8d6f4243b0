"""Label Studio: its exports as labels, and rows as tasks with predictions.

The format: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions. Boxes are in percent of
the image; one prediction holds them all, for only one is shown at a time. A field is a control tag of its name: Choices
for a closed set, RectangleLabels for boxes, and TextArea for everything else; an item of a list is a line, as JSON.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import quoteattr

from tasks.errors import TruthError
from tasks.labelling.controls import Control, Region
from tasks.schemas.boxes import corners, label_of
from tasks.storage.s3 import is_s3
from tasks.text import as_utf8

IMAGE = "image"  # the object tag
EVIDENCE = "evidence"  # the control tag of boxes that show where a value was read
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
LOCAL = "/data/local-files/?d="
Task = dict[str, Any]


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
            fields = _fields(done[-1].get("result") or ())
            page = int(data.get("page") or 1)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise TruthError(f"{place}, annotations: a result has another form ({error!r}). Export as JSON.") from None
        yield _path(image), page, fields, number


def _path(url: str) -> str:
    """The path of an image that Label Studio serves from a local folder, or that was uploaded to it."""
    parts = urlsplit(url)
    if parts.path.endswith("/data/local-files/"):
        return "/" + parse_qs(parts.query).get("d", [""])[0].lstrip("/")
    if "/data/upload/" in parts.path:
        name = parts.path.rpartition("/")[2]
        return name.partition("-")[2] or name  # eight letters stand before the file's own name
    return url


def _fields(regions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The value of each control tag; boxes in pixels of the original."""
    fields: dict[str, Any] = {}
    for region in regions:
        name, kind, value = str(region["from_name"]), region.get("type"), region["value"]
        if kind == "rectanglelabels" and name != EVIDENCE:
            fields.setdefault(name, []).append(_region(region))
        elif kind == "choices":
            fields[name] = value["choices"][0] if len(value["choices"]) == 1 else list(value["choices"])
        elif kind == "textarea":
            text = value["text"]
            fields[name] = text[0] if isinstance(text, list) and len(text) == 1 else text
        elif kind in ("number", "rating", "datetime"):
            fields[name] = value[kind]
    return fields


def _region(region: Mapping[str, Any]) -> Region:
    value, width, height = region["value"], region["original_width"], region["original_height"]
    left, top = value["x"] * width / 100, value["y"] * height / 100
    right, bottom = left + value["width"] * width / 100, top + value["height"] * height / 100
    named = value.get("rectanglelabels") or [None]
    return Region(named[0], {"left": left, "top": top, "right": right, "bottom": bottom})


def task_of(row: Mapping[str, Any], controls: Sequence[Control]) -> Task:
    """A row of `results` as a task: its image and page, and one prediction with all its fields and boxes.

    Label Studio serves a local image where its LOCAL_FILES_DOCUMENT_ROOT is `/`; `uri` in the data is the image's own
    name, by which the task comes back.
    """
    told = {
        name: row[name] for name in ("page", "name", "status", "error", "needs_review") if row.get(name) is not None
    }
    task: Task = {"data": {IMAGE: _url(row["image"]), "uri": as_utf8(row["image"]), **told}, "predictions": []}
    if row["status"] == "ok":
        regions = list(_numbered(_regions(row, controls)))
        version = f"{row['model']} {row['preset']}"
        task["predictions"] = [{"model_version": version, **_score(row), "result": regions}]
    return task


def _url(uri: str) -> str:
    return uri if is_s3(uri) else LOCAL + quote(as_utf8(uri).lstrip("/"))


def _score(row: Mapping[str, Any]) -> dict[str, float]:
    """How far a second reading agreed, by which Label Studio can sort."""
    told = [one for one in (row.get("agreement") or {}).values() if one is not None]
    return {"score": round(sum(told) / len(told), 6)} if told else {}


def _regions(row: Mapping[str, Any], controls: Sequence[Control]) -> Iterator[Task]:
    fields = row.get("result") or {"answer": row.get("answer")}
    for control in controls:
        value = fields.get(control.name)
        if value is None or value == []:
            continue
        if control.kind == "boxes":
            for one in value if isinstance(value, list) else [value]:
                yield from _box(row, control.name, one if control.inner is None else one.get(control.inner), one)
        elif control.kind == "choices":
            yield _of(control.name, "choices", {"choices": [written(value)]})
        else:
            lines = value if isinstance(value, list) and not _is_map(value) else [value]
            yield _of(control.name, "textarea", {"text": [written(line) for line in lines]})
    for name, box in (row.get("evidence") or {}).items():
        if box is not None and box.get("page") in (None, row["page"]):
            yield from _box(row, EVIDENCE, box, {"label": name})


def _box(row: Mapping[str, Any], name: str, box: Any, of: Any) -> Iterator[Task]:
    found, width, height = corners(box), row.get("source_width"), row.get("source_height")
    if found is None or not width or not height:
        return
    sides = dict(zip(("x", "y", "width", "height"), found, strict=True))
    percent = {
        side: round(100 * size / (width if side in ("x", "width") else height), 6) for side, size in sides.items()
    }
    label = in_xml((label_of(of) if isinstance(of, Mapping) else "") or name)
    where = {"original_width": width, "original_height": height, "image_rotation": 0}
    yield {**_of(name, "rectanglelabels", {**percent, "rotation": 0, "rectanglelabels": [label]}), **where}


def in_xml(text: str) -> str:
    r"""The text with characters that XML 1.0 does not have written as `\x01`; a label is called alike in both files."""
    return NO_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), as_utf8(text))


def _of(name: str, kind: str, value: Task) -> Task:
    return {"from_name": name, "to_name": IMAGE, "type": kind, "value": value}


def _numbered(regions: Iterable[Task]) -> Iterator[Task]:
    """Regions need an id within their task."""
    for number, region in enumerate(regions, start=1):
        yield {"id": f"r{number}", **region}


def written(value: Any) -> str:
    """A value as a person types it: JSON for an object, `true` and `false`, numbers without zeros behind."""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value.normalize():f}"
        case date():
            return value.isoformat()
        case Mapping() | list():
            return as_utf8(json.dumps(_plain(value), ensure_ascii=False, default=written))
    return as_utf8(str(value))


def _is_map(value: Sequence[Any]) -> bool:
    """Whether these are the pairs in which Arrow gives a map."""
    return bool(value) and all(isinstance(one, tuple) for one in value)


def _plain(value: Any) -> Any:
    """Without nulls, which a person need not see."""
    if isinstance(value, list) and _is_map(value):
        value = dict(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def labelling_config(controls: Sequence[Control], labels: Mapping[str, Iterable[str]]) -> str:
    """The labelling interface that such tasks need; `labels` are those of the boxes of each control tag."""
    parts = [f'  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n']
    shown = [*controls, *([Control(EVIDENCE, "boxes")] if labels.get(EVIDENCE) else [])]
    for control in shown:
        name = quoteattr(in_xml(control.name))
        parts.append(f"  <Header value={name}/>\n")
        if control.kind == "boxes":
            named = _options("Label", sorted(set(labels.get(control.name, ()))))
            parts.append(f'  <RectangleLabels name={name} toName="{IMAGE}">\n{named}  </RectangleLabels>\n')
        elif control.kind == "choices":
            values = _options("Choice", map(written, control.values))
            parts.append(f'  <Choices name={name} toName="{IMAGE}" choice="single">\n{values}  </Choices>\n')
        else:
            parts.append(f'  <TextArea name={name} toName="{IMAGE}" editable="true" maxSubmissions="100"/>\n')
    return f"<View>\n{''.join(parts)}</View>\n"


def _options(tag: str, values: Iterable[str]) -> str:
    return "".join(f"    <{tag} value={quoteattr(in_xml(value))}/>\n" for value in values)
