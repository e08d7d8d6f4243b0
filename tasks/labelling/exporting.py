"""A run's rows as files for labelling tools and programs, and images on which variants disagree."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import UsageError
from tasks.labelling.controls import Control, controls_of
from tasks.labelling.label_studio import EVIDENCE, labelling_config, task_of, written
from tasks.recording.writer import run_folder
from tasks.schemas.boxes import named_boxes
from tasks.schemas.tree import Node
from tasks.scoring.comparison import Compared
from tasks.scoring.scores import answer_of
from tasks.storage.output import Output
from tasks.text import as_utf8

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 1000  # rows
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Export:
    """What was written: the file, how many rows of all it has, and a file that goes with it."""

    file: str
    rows: int
    of: int
    beside: str | None = None


@dataclass(frozen=True)
class ExportChoice:
    """The form, the run's schema where it is known, and whether only rows are wanted that a person should look at."""

    to: str
    root: Node | None = None
    review: bool = False


def export_run(output: Output, job: str, run_id: str, wanted: ExportChoice) -> Export:
    """Write a run's rows in the form of a tool. UsageError where the form has nothing to hold, or OutputError."""
    folder = run_folder("results", job, run_id)
    every, kept = 0, list[Row]()
    result: pa.DataType | None = None
    for part in output.read_batches(folder, ROWS_AT_ONCE):
        if "result" in part.column_names:
            result = part.schema.field("result").type
        every += part.num_rows
        kept += [row for row in part.to_pylist() if not wanted.review or needs_a_person(row)]
    controls = controls_of(result, wanted.root)
    name, text = WAYS[wanted.to](kept, controls)
    place = f"{run_folder('exports', job, run_id)}/{'review-' if wanted.review else ''}"
    output.write_text(place + name, text)
    beside = None
    if wanted.to == "label-studio":
        beside = place + "label-studio.xml"
        output.write_text(beside, labelling_config(controls, box_labels(kept, controls)))
    return Export(output.join(place + name), len(kept), every, beside and output.join(beside))


def box_labels(rows: Sequence[Row], controls: Sequence[Control]) -> dict[str, list[str]]:
    """What the boxes of each control tag are of, and the fields that evidence was given for."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for control in controls:
            if control.kind == "boxes":
                value = (row.get("result") or {}).get(control.name)
                found.setdefault(control.name, []).extend(label for label, _ in named_boxes(value, control.name))
        found.setdefault(EVIDENCE, []).extend(name for name, box in (row.get("evidence") or {}).items() if box)
    return found


def needs_a_person(row: Row) -> bool:
    """Whether there is no good answer, or a second reading was of another opinion."""
    return row["status"] != "ok" or bool(row.get("needs_review"))


def _as_tasks(rows: Sequence[Row], controls: Sequence[Control]) -> tuple[str, str]:
    return "label-studio.json", _array(task_of(row, controls) for row in rows)


def _as_lines(rows: Sequence[Row], _: Sequence[Control]) -> tuple[str, str]:
    """A row an object: its image and page, how it ended, and its fields; as such it is also a file of labels."""
    lines = []
    for row in rows:
        told = {name: row.get(name) for name in ("image", "page", "name", "model", "preset", "status")}
        told |= {name: row[name] for name in ("error", "needs_review") if row.get(name) is not None}
        fields = row.get("result") or ({"answer": row.get("answer")} if row["status"] == "ok" else {})
        lines.append(as_json({**told, **fields}) + "\n")
    return "rows.jsonl", "".join(lines)


def _as_coco(rows: Sequence[Row], controls: Sequence[Control]) -> tuple[str, str]:
    """https://cocodataset.org/#format-data: boxes as left, top, width and height in pixels of the original."""
    if not any(control.kind == "boxes" for control in controls):
        raise UsageError("This run's answers hold no boxes, which COCO is for. Take --to label-studio or jsonl.")
    images, annotations, categories = list[Any](), list[Any](), dict[str, int]()
    for number, row in enumerate(rows, start=1):
        size = {"width": row.get("source_width"), "height": row.get("source_height")}
        place = {"file_name": row["name"], "uri": row["image"], "page": row["page"]}
        images.append({"id": number, **place, **size})
        for label, box in named_boxes(row.get("result")):
            annotation = {"id": len(annotations) + 1, "image_id": number}
            annotation |= {"category_id": categories.setdefault(label, len(categories) + 1)}
            annotations.append({**annotation, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0})
    named = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
    return "coco.json", as_json({"images": images, "annotations": annotations, "categories": named})


WAYS: dict[str, Callable[[Sequence[Row], Sequence[Control]], tuple[str, str]]] = {
    "label-studio": _as_tasks,
    "coco": _as_coco,
    "jsonl": _as_lines,
}


def _array(items: Iterable[Any]) -> str:
    """A JSON array, an item a line."""
    return "[\n" + ",\n".join(map(as_json, items)) + "\n]\n"


def as_json(value: Any) -> str:
    """JSON on one line, dates and decimals as a person writes them."""
    return as_utf8(json.dumps(value, ensure_ascii=False, default=written))


def write_disagreements(compared: Compared) -> str | None:
    """Write the images where not all answers are alike; the file's URI, None where all are.

    As JSON lines, which are labels once the fields named in `differ` are filled in: what all agree on stands there.
    As tasks of Label Studio, a prediction a variant; and the interface for them. Raises OutputError.
    """
    if not compared.differing:
        return None
    plan = compared.comparison.variants[0].plan
    folder = run_folder("exports", plan.name, compared.comparison.run_id)
    controls = controls_of(plan.schema.arrow if plan.schema else None, plan.schema.root if plan.schema else None)
    rows, tasks, lines = list[Row](), list[Any](), list[Any]()
    for at in compared.differing:
        answers = {one.name: row for one in compared.variants if (row := one.sheet.rows[at]) is not None}
        rows += answers.values()
        first, *_ = answers.values()
        task = task_of(first, controls)
        task["predictions"] = [
            {**prediction, "model_version": name}
            for name, row in answers.items()
            for prediction in task_of(row, controls)["predictions"]
        ]
        tasks.append(task)
        lines.append(_line(compared, at, answers))
    plan.output.write_text(f"{folder}/label-studio.json", _array(tasks))
    plan.output.write_text(f"{folder}/label-studio.xml", labelling_config(controls, box_labels(rows, controls)))
    plan.output.write_text(f"{folder}/disagreements.jsonl", "".join(as_json(line) + "\n" for line in lines))
    return plan.output.join(f"{folder}/disagreements.jsonl")


def _line(compared: Compared, at: int, answers: Mapping[str, Row]) -> dict[str, Any]:
    """Image and page, each field with the answer that all gave or null, which differ, and what each variant said."""
    image, page = compared.keys[at]
    said = {name: answer_of(row) if row["status"] == "ok" else {} for name, row in answers.items()}
    first: Mapping[str, Any] = next(iter(said.values()))
    differ = [name for name, _ in compared.fields if not _all_right(compared, name, at)]
    agreed = {name: None if name in differ else first.get(name) for name, _ in compared.fields}
    return {"image": image, "page": page, **agreed, "differ": differ, "answers": said}


def _all_right(compared: Compared, name: str, at: int) -> bool:
    tallies = [one.sheet.fields[name][at] for one in compared.variants]
    return all(one is not None and not one.wrong for one in tallies)
