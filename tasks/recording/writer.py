"""Record: a run's rows as typed Parquet parts, written while the run goes on.

    {table}/job=NAME/run=RUN_ID/part-00000.parquet

All runs of a job have the same columns, so that its folder reads as one dataset in any reader of Parquet, with no
option. The column `result` of `results` is of the run's schema, and is not there without one: a run whose schema is
not the job's goes to a job of its own (`jobs_for`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import DamagedTable, OutputError
from tasks.recording.tables import TABLES, answer_columns
from tasks.storage.output import Output
from tasks.text import as_utf8

BATCH = 512  # rows held as Python objects before they become Arrow, which takes a tenth of the memory


def run_folder(table: str, job: str, run_id: str) -> str:
    """The folder of one run's parts of a table, relative to the output."""
    return f"{table}/job={job}/run={run_id}"


def table_schema(table: str, result_type: pa.DataType | None = None) -> pa.Schema:
    """A table's schema; with a type for answers, `results` has `answer_columns` after `answer`."""
    schema: pa.Schema = TABLES[table]
    if result_type is None:
        return schema
    at = schema.get_field_index("answer") + 1
    columns = list(schema)
    return pa.schema([*columns[:at], *answer_columns(result_type), *columns[at:]])


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table; a missing key is null, and text is written as `as_utf8` does.

    Raises KeyError for an unknown key, ArrowInvalid for a type.
    """
    rows = list(rows)
    check_columns(rows, schema)
    columns = [_array([row.get(column.name) for row in rows], column.type) for column in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        return pa.array([as_utf8(value) if isinstance(value, str) else value for value in values], type=kind)


def check_columns(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Raise KeyError if a row has a key that is no column."""
    known = set(schema.names)
    for row in rows:
        if not row.keys() <= known:
            raise KeyError(f"no such column: {', '.join(sorted(row.keys() - known))}")


@dataclass
class TableWriter:
    """Writes one table of one run, in parts; safe to use from several threads.

    A part is written when it has `rows_per_part` rows or `bytes_per_part`, which bounds the memory that waiting rows
    take, or when rows come in and the oldest waits for `seconds`. Rows whose part could not be written stay, and the
    next `add` or `close` tries again.
    """

    output: Output
    table: str
    job: str
    run_id: str
    result_type: pa.DataType | None = None
    part: str = ""  # in the names of its parts, where several processes write the table
    rows_per_part: int = 10_000
    bytes_per_part: int = 64 * 2**20
    seconds: float = 30.0
    clock: Callable[[], float] = time.monotonic
    parts: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.schema = table_schema(self.table, self.result_type)
        self.folder = run_folder(self.table, self.job, self.run_id)
        self._lock = Lock()
        self._loose: list[Mapping[str, Any]] = []
        self._batches: list[pa.Table] = []
        self._packed = 0
        self._oldest: float | None = None
        self._closed = False

    @property
    def uri(self) -> str:
        """The folder of this run's parts."""
        return self.output.join(self.folder)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows, and write the parts that are due. Raises OutputError, or KeyError for an unknown column."""
        filled = [{"run_id": self.run_id, **row} for row in rows]
        check_columns(filled, self.schema)
        with self._lock:
            if self._closed:
                raise ValueError(f"{self.folder} is closed")
            self._loose += filled
            self.rows += len(filled)
            if self._oldest is None and filled:
                self._oldest = self.clock()
            if len(self._loose) >= BATCH:
                self._pack()
            while self.waiting >= self.rows_per_part:
                self._write(self.rows_per_part)
            late = self._oldest is not None and self.clock() - self._oldest >= self.seconds
            if late or sum(batch.nbytes for batch in self._batches) >= self.bytes_per_part:
                self._write(self.waiting)

    def flush(self) -> None:
        """Write what there is."""
        with self._lock:
            if self.waiting:
                self._write(self.waiting)

    def close(self) -> None:
        """Write what is left; a table without rows gets one part without rows, so that it still reads."""
        with self._lock:
            if self._closed:
                return
            if self.waiting or not self.parts:
                self._write(self.waiting)
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Rows that are in no part yet."""
        return len(self._loose) + self._packed

    def _pack(self) -> None:
        if self._loose:
            self._batches.append(to_table(self._loose, self.schema))
            self._packed += len(self._loose)
            self._loose = []

    def _write(self, rows: int) -> None:
        self._pack()
        waiting = pa.concat_tables(self._batches) if self._batches else self.schema.empty_table()
        name = f"{self.folder}/part-{self.part}{self.parts:05}.parquet"
        if not self.parts and self.output.exists(name):
            raise OutputError(f"{self.output.join(name)} exists already. Start again, for a new run id.")
        self.output.write_table(name, waiting.slice(0, rows))
        self.parts += 1
        rest = waiting.slice(rows)
        self._batches = [rest] if rest.num_rows else []
        self._packed = rest.num_rows
        self._oldest = self.clock() if rest.num_rows else None


@dataclass(frozen=True)
class TableFile:
    """A table of one run that is a single file."""

    output: Output
    table: str
    job: str
    run_id: str
    name: str


def write_table_file(file: TableFile, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write the whole table, and return its URI. Raises OutputError, or KeyError for an unknown column."""
    path = f"{run_folder(file.table, file.job, file.run_id)}/{file.name}"
    # Rows of the first release name their job.
    filled = [{"run_id": file.run_id, **{name: row[name] for name in row if name != "job"}} for row in rows]
    file.output.write_table(path, to_table(filled, table_schema(file.table)))
    return file.output.join(path)


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
