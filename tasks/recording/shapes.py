"""What is strange about a run's tables, once reading them has failed: for a person who has to do something about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from tasks.errors import OutputError, VisionflowError
from tasks.recording.tables import TABLES
from tasks.recording.writer import run_folder
from tasks.storage.output import Output

MAY_BE_NULL = {"message", "finished_at", "price_source", "price_checked"}  # in a run's own row, and its bill's
MOST_NAMED = 3  # columns


@contextmanager
def as_written(output: Output, job: str, run: str) -> Iterator[None]:
    """Read a run's tables within; OutputError where that fails because they are not as visionflow writes them."""
    try:
        yield
    except VisionflowError:
        raise
    except Exception as error:
        strange = next(_strange(output, job, run), None)
        if strange is None:
            raise
        raise OutputError(f"{strange}. Take another run (--run), or run again.") from error


def _strange(output: Output, job: str, run: str) -> Iterator[str]:
    for table, expected in TABLES.items():
        folder = run_folder(table, job, run)
        parts = output.parts(folder)
        if not parts:
            yield f"There is no table in {output.join(folder)}"
        for name in parts:
            wrong = _wrong(expected, output.read_schema(name))
            if wrong:
                yield f"{output.join(name)} {wrong}: another program has written it"
            elif table in ("runs", "costs"):
                yield from (f"{output.join(name)} {why}" for why in _empty(output.read_table(name), table))


def _wrong(expected: pa.Schema, found: pa.Schema) -> str | None:
    """A column of another kind, or else those that are missing."""
    for field in expected:
        at = found.get_field_index(field.name)
        if at >= 0 and _kind(found.field(at).type) != _kind(field.type):
            return f"has a column {field.name} that holds {found.field(at).type}, not {field.type}"
    missing = [name for name in expected.names if name not in found.names]
    return f"has no column {', '.join(missing[:MOST_NAMED])}" if missing else None


def _kind(kind: pa.DataType) -> str:
    """Types that read alike; the first release kept choices as dictionaries."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for name in ("integer", "floating", "string", "large_string", "decimal", "timestamp"):
        if getattr(pa.types, f"is_{name}")(kind):
            return name.removeprefix("large_")
    return str(kind)


def _empty(rows: pa.Table, table: str) -> Iterator[str]:
    """Why there is nothing to tell of a run, or of its bill."""
    if table == "runs" and rows.num_rows == 0:
        yield "has no row"
    for name in rows.column_names:
        if name in TABLES[table].names and name not in MAY_BE_NULL and rows.column(name).null_count:
            yield f"has a row without a value in {name}"
