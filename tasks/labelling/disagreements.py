"""Images on which variants disagree, for a person to label: the answers of each beside one another."""

from collections.abc import Mapping
from typing import Any

from tasks.labelling.controls import controls_of
from tasks.labelling.exporting import as_json, box_labels
from tasks.labelling.label_studio import labelling_config, task_of
from tasks.recording.writer import run_folder
from tasks.scoring.compared import Compared
from tasks.scoring.scores import answer_of

Row = Mapping[str, Any]


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
    plan.output.write_text(f"{folder}/label-studio.json", "[\n" + ",\n".join(map(as_json, tasks)) + "\n]\n")
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
