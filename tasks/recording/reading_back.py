"""Reading tables back as one, over jobs and runs, also those of the first release; how many rows need a person."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tasks.asking.pages import BatchRequest
from tasks.errors import UsageError
from tasks.recording.rows import Reviews
from tasks.storage.output import Output, open_output, sound_parts

PLACE = re.compile(r"\w+/job=(?P<job>[^/]+)/run=(?P<run>[^/]+)/[^/]+")
REQUEST = ("image", "page", "step", "attempt")  # of a batch, in `calls`
# Of a run id when the run began: to the second, and since 2026-11-29 to the millisecond.
BEGAN = r"^(\d{8}T\d{6}Z)(-\d{3})?-.*$"


def read_rows(table: str, output: str, job: str | None = None, run: str | None = None) -> pa.Table:
    """The rows of a table of all runs, of one job's or of one run, with the column `job`.

    Columns that a run lacks are null. Where jobs differ in the type of an answer, answers are JSON. Raises UsageError
    if there is no such run, or OutputError.
    """
    where = open_output(output)
    parts = list(_parts(where, table, job, run))
    if not parts:
        known = sorted({place["job"] for name in where.parts(table) if (place := PLACE.fullmatch(name))})
        wanted = " ".join(f"{word} {value}" for word, value in (("job", job), ("run", run)) if value)
        there = f"There are the jobs: {', '.join(known)}." if known else "Check the output."
        raise UsageError(f"No {table} {f'of {wanted} ' if wanted else ''}in {where.uri}. {there}")
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.concat_tables(map(_with_json, parts), promote_options="permissive")


def newest_answers(results: pa.Table) -> pa.Table:
    """Of each image and page of a job the good answer in the newest run that has one."""
    good = results.filter(pc.equal(results["status"], "ok"))
    began = pc.replace_substring_regex(good["run_id"], pattern=BEGAN, replacement=r"\1\2")
    keys = good.select(["job", "image", "page", "answered_at", "run_id"]).append_column("began", began)
    order = pc.sort_indices(keys, [(name, "ascending") for name in ("began", "answered_at", "run_id")])
    placed = keys.take(order).append_column("at", pa.array(range(good.num_rows), pa.int64()))
    last = placed.group_by(["job", "image", "page"]).aggregate([("at", "max")])["at_max"]
    return good.take(pc.take(order, last)).sort_by(
        [("job", "ascending"), ("image", "ascending"), ("page", "ascending")]
    )


def ended_requests(output: Output, jobs: Iterable[str], written_at: datetime, run_id: str) -> dict[BatchRequest, str]:
    """The requests of a batch whose end is in `calls`, and by which run, of those that began no earlier than `run_id`.

    Raises OutputError.
    """
    found: dict[BatchRequest, str] = {}
    columns = [*REQUEST, "run_id", "tier", "started_at"]
    for folder in (f"calls/job={job}" for job in jobs):
        for name in output.parts(folder):
            if name.removeprefix(f"{folder}/run=") < run_id:
                continue
            for part in sound_parts(output, name, columns):
                if part.num_columns < len(columns):  # of the first release, which knew no batches
                    continue
                ours = pc.and_(pc.equal(part["started_at"], written_at), pc.equal(part["tier"], "batch"))
                *request, runs = (part.filter(ours).column(column).to_pylist() for column in columns[:5])
                found.update(zip(zip(*request, strict=True), runs, strict=True))
    return found


def _parts(output: Output, table: str, job: str | None, run: str | None) -> Iterator[pa.Table]:
    for name in output.parts(f"{table}/job={job}" if job else table):
        place = PLACE.fullmatch(name)
        if place and run in (None, place["run"]):
            part = next(output.read_parts(name))
            part = part.drop_columns("job") if "job" in part.column_names else part
            plain = part.cast(pa.schema([(field.name, _plain(field.type)) for field in part.schema]))
            yield plain.append_column("job", pa.repeat(place["job"], part.num_rows))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with texts in place of dictionaries, as which the first release kept choices."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _plain(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.map_(kind.key_type, _plain(kind.item_type)) if pa.types.is_map(kind) else kind


def _with_json(part: pa.Table) -> pa.Table:
    """The part with every nested column as JSON text."""
    for at, field in enumerate(part.schema):
        if pa.types.is_nested(field.type):
            part = part.set_column(at, field.name, pa.array(map(_json, part.column(at).to_pylist()), pa.string()))
    return part


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def counted_reviews(output: Output, folder: str) -> Reviews:
    """Counted from the parts of a run's `results`. Raises OutputError."""
    reviews = Reviews()
    for part in output.read_batches(folder, 10_000):
        reviews.add_part(part)
    return reviews
