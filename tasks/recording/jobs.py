"""The job whose folder takes a run's tables: one Arrow schema a job, so that a folder reads whole in any reader."""

from contextlib import suppress
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import DamagedTable
from tasks.recording.writer import table_schema
from tasks.storage.output import Output


def jobs_for(output: Output, asked: str, result_type: pa.DataType | None) -> tuple[str, ...]:
    """The job asked for, and `NAME-2`, `NAME-3`... up to the first that has this schema already, or no results yet.

    The last takes the run's tables; the others are earlier ones of the same job, with their bills. Raises OutputError.
    """
    wanted = _as_read(table_schema("results", result_type))
    names: list[str] = []
    for number in count(1):
        names.append(asked if number == 1 else f"{asked}-{number}")
        held = _schema_of(output, names[-1])
        if held is None or held.equals(wanted):
            break
    return tuple(names)


def _schema_of(output: Output, job: str) -> pa.Schema | None:
    """Of the newest part that is whole."""
    for part in reversed(output.parts(f"results/job={job}")):
        with suppress(DamagedTable):
            return output.read_schema(part)
    return None


def _as_read(schema: pa.Schema) -> pa.Schema:
    """As Parquet gives it back, which names the items of lists in its own way."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))
