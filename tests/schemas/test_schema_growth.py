"""A job whose schema grew: its old and new parts read as one dataset. How to read them is in tasks/schemas/arrow.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tasks.recording.writer import TableWriter, open_output
from tasks.schemas import AnswerSchema
from tasks.schemas.loading import build_schema
from tasks.storage.output import Output

OLD_LINE = {"name": {"type": "string"}}
NEW_LINE = {**OLD_LINE, "price": {"type": "string", "format": "decimal"}}
OLD_ANSWER = '{"company": "KEDAI KOPI", "kind": "cash", "lines": [{"name": "kopi"}]}'
NEW_ANSWER = (
    '{"company": "WARUNG", "kind": "card", "lines": [{"name": "teh", "price": "1.20"}], "date": "2018-12-25", '
    '"shop": {"city": "Huế"}}'
)


def receipts(lines: dict[str, Any], **more: Any) -> AnswerSchema:
    properties = {
        "company": {"type": "string"},
        "kind": {"enum": ["cash", "card"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": lines}},
        **more,
    }
    return build_schema("receipts", {"type": "object", "properties": properties}, label="receipts")


OLD = receipts(OLD_LINE)
NEW = receipts(
    NEW_LINE,
    date={"type": "string", "format": "date"},
    shop={"type": "object", "properties": {"city": {"type": "string"}}},
)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """Runs without a schema, with the first one, and with the one that it grew into."""
    output = open_output(str(tmp_path))
    with TableWriter(output, "results", "receipts", "20261121T000000Z-aaaa") as writer:
        writer.add([{"image": "0.jpg"}])
    for number, (schema, answer) in enumerate([(OLD, OLD_ANSWER), (NEW, NEW_ANSWER)], 1):
        with TableWriter(output, "results", "receipts", f"2026112{number + 1}T000000Z-aaaa", schema.arrow) as writer:
            fitted = schema.fit(answer)
            assert fitted.errors == []
            writer.add([{"image": f"{number}.jpg", "result": fitted.value}])
    return output


def check(rows: Sequence[Mapping[Any, Any]]) -> None:
    none, old, new = sorted(rows, key=lambda row: str(row["image"]))
    assert none["result"] is None or set(none["result"].values()) <= {None}
    assert old["result"]["company"] == "KEDAI KOPI"
    assert old["result"]["date"] is None
    assert [dict(line) for line in old["result"]["lines"]] == [{"name": "kopi", "price": None}]
    assert str(new["result"]["date"]) == "2018-12-25"
    assert new["result"]["shop"] == {"city": "Huế"}
    assert [(line["name"], float(line["price"])) for line in new["result"]["lines"]] == [("teh", 1.2)]


def parts(output: Output) -> list[str]:
    return [output.join(path) for path in output.list("results/job=receipts")]


def test_read_table(output: Output) -> None:
    check(output.read_table("results/job=receipts").to_pylist())


def test_pyarrow_and_pandas(output: Output) -> None:
    schema = pa.unify_schemas([pq.read_schema(part) for part in parts(output)], promote_options="permissive")
    folder = output.join("results/job=receipts")
    check(ds.dataset(folder, schema=schema, partitioning="hive").to_table().to_pylist())
    check(pd.read_parquet(folder, schema=schema, columns=["image", "result"]).to_dict("records"))


def test_duckdb(output: Output) -> None:
    query = f"select image, result from read_parquet('{output.uri}/results/**/*.parquet', union_by_name = true)"
    check([{"image": image, "result": result} for image, result in duckdb.execute(query).fetchall()])


def test_polars(output: Output) -> None:
    newest = parts(output)[-1]
    frame = pl.scan_parquet(
        output.join("results/job=receipts"),
        schema=pl.read_parquet_schema(newest),
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(missing_struct_fields="insert"),
    )
    check(frame.collect().to_dicts())
