"""Rows become typed parts that every reader takes for one dataset."""

import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from config.job import Job
from tasks.errors import OutputError
from tasks.recording.tables import RESULTS, TABLES
from tasks.recording.writer import TableWriter, table_schema, to_table
from tasks.storage.output import Output, open_output
from tests.s3 import S3Server

FIRST, SECOND = "20261123T154412Z-k3f9", "20261124T010000Z-a1b2"
LINE = pa.struct([("name", pa.string()), ("price", pa.decimal128(38, 9))])
RECEIPT = pa.struct(
    [
        ("kind", pa.string()),
        ("date", pa.date32()),
        ("total", pa.decimal128(38, 9)),
        ("items", pa.list_(LINE)),
    ]
)


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "image": f"receipts/{number:04}.jpg",
        "page": 1,
        "status": "ok",
        "cost_usd": Decimal("0.000512345"),
        "answered_at": datetime(2026, 11, 23, 15, 44, 12, tzinfo=UTC),
        "result": {
            "kind": f"kind {number % 7}",
            "date": date(2018, 12, 25),
            "total": Decimal("9.00"),
            "items": [{"name": "Kopi", "price": Decimal("4.50")}],
        },
        **more,
    }


def record(output: Output, run_id: str, rows: int, *, job: str = "receipts") -> None:
    with TableWriter(output, "results", job, run_id, RECEIPT, rows_per_part=4) as writer:
        writer.add(row(number) for number in range(rows))


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return open_output(str(tmp_path))


def test_parts_lie_where_the_contract_says(output: Output) -> None:
    record(output, FIRST, rows=9)
    folder = f"results/job=receipts/run={FIRST}"
    assert output.list() == [f"{folder}/part-{number:05}.parquet" for number in range(3)]
    assert [pq.read_table(output.join(path), partitioning=None).num_rows for path in output.list()] == [4, 4, 1]


def test_a_part_has_the_table_s_schema_with_the_result_after_the_answer(output: Output) -> None:
    record(output, FIRST, rows=1)
    part = pq.ParquetFile(output.join(output.list()[0]))
    names = part.schema_arrow.names
    assert names[names.index("answer") + 1] == "result"
    assert part.schema_arrow.field("result").type == RECEIPT
    later = ["result", "agreement", "needs_review", "second_answer", "evidence"]
    assert pa.schema([field for field in part.schema_arrow if field.name not in later]) == RESULTS
    assert part.metadata.row_group(0).column(0).compression == "ZSTD"
    assert part.read().to_pylist()[0]["result"] == row(0)["result"]
    assert part.read().to_pylist()[0]["cost_usd"] == Decimal("0.000512345")


def test_without_a_schema_there_is_no_result_column() -> None:
    assert table_schema("results") == RESULTS


@pytest.mark.parametrize("table", TABLES)
def test_a_table_without_rows_still_reads(output: Output, table: str) -> None:
    TableWriter(output, table, "receipts", FIRST).close()
    part = output.read_table(table)
    assert part.num_rows == 0
    assert part.schema == TABLES[table]


@pytest.mark.parametrize("job", ["receipts", "hóa-đơn.2026", "a", "nightly_2026-01-01", "NULL", "true"])
@pytest.mark.parametrize("start", ["results", "results/job={job}"])
def test_two_runs_with_one_schema_read_as_one_dataset_everywhere(output: Output, job: str, start: str) -> None:
    assert Job(name=job).name == job
    record(output, FIRST, rows=6, job=job)
    record(output, SECOND, rows=3, job=job)
    folder = output.join(start.format(job=job))
    expected = {("receipts/0005.jpg", job, FIRST), ("receipts/0002.jpg", job, SECOND)}

    def check(found: list[tuple[str, str, str]]) -> None:
        assert len(found) == 9
        assert expected <= set(found)

    frame = pd.read_parquet(folder)
    jobs = frame.get("job", [job] * len(frame))
    check(list(zip(frame["image"], jobs, frame["run_id"], strict=True)))

    rows = ds.dataset(folder, partitioning="hive").to_table().to_pylist()
    check([(r["image"], r.get("job", job), r["run_id"]) for r in rows])

    query = f"select image, job, run_id from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    check(duckdb.execute(query).fetchall())

    found = pl.scan_parquet(folder).collect().to_dicts()
    check([(r["image"], job, r["run_id"]) for r in found])  # Polars takes `true` for a truth


def test_answers_can_be_queried_by_their_fields(output: Output) -> None:
    record(output, FIRST, rows=6)
    query = f"""
        select sum(item.price), min(result.date), count(distinct result.kind)
        from (select result, unnest(result.items) as item from read_parquet('{output.uri}/results/**/*.parquet'))
    """
    assert duckdb.execute(query).fetchall() == [(Decimal("27.000000000"), date(2018, 12, 25), 6)]


def test_an_unknown_column_is_an_error_and_a_missing_one_null(output: Output) -> None:
    writer = TableWriter(output, "results", "receipts", FIRST)
    with pytest.raises(KeyError, match="prise"):
        writer.add([{"image": "a.jpg", "prise": 1}])
    with pytest.raises(KeyError, match="prise"):
        to_table([{"prise": 1}], RESULTS)
    writer.add([{"image": "a.jpg"}])
    writer.close()
    found = output.read_table("results").to_pylist()
    assert [(r["image"], r["error"], r["run_id"]) for r in found] == [("a.jpg", None, FIRST)]


def test_parts_appear_while_the_run_goes_on(output: Output) -> None:
    now = 100.0
    writer = TableWriter(output, "results", "receipts", FIRST, seconds=30, clock=lambda: now)
    writer.add([{"image": "a.jpg"}])
    assert output.list() == []
    now = 131.0
    writer.add([{"image": "b.jpg"}])
    assert output.read_table("results").num_rows == 2
    now = 150.0
    writer.add([{"image": "c.jpg"}])
    assert output.read_table("results").num_rows == 2
    writer.close()
    assert output.read_table("results").num_rows == 3
    assert len(output.list()) == 2


def test_long_answers_make_parts_of_fewer_rows(output: Output) -> None:
    with TableWriter(output, "results", "receipts", FIRST, bytes_per_part=2**20) as writer:
        for start in range(0, 2048, 512):
            writer.add({"image": f"{number}.jpg", "answer": "x" * 1024} for number in range(start, start + 512))
    assert [pq.read_metadata(output.join(path)).num_rows for path in output.list()] == [1024, 1024]


def test_many_threads_lose_and_repeat_nothing(output: Output) -> None:
    writer = TableWriter(output, "results", "receipts", FIRST, RECEIPT, rows_per_part=700)

    def add(start: int) -> None:
        for number in range(start, start + 500, 5):
            writer.add([row(n) for n in range(number, number + 5)])

    threads = [threading.Thread(target=add, args=(start,)) for start in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    images = output.read_table("results", columns=["image"]).column("image").to_pylist()
    assert sorted(images) == [f"receipts/{number:04}.jpg" for number in range(4000)]
    assert (writer.rows, writer.parts) == (4000, 6)


def test_rows_that_could_not_be_written_are_written_later(output: Output) -> None:
    writer = TableWriter(output, "results", "receipts", FIRST, rows_per_part=2)
    in_the_way = Path(output.join("results"))
    in_the_way.write_text("a file")
    with pytest.raises(OutputError, match="a file stands where a folder should be"):
        writer.add([{"image": "a.jpg"}, {"image": "b.jpg"}])
    in_the_way.unlink()
    writer.add([{"image": "c.jpg"}])
    writer.close()
    assert output.read_table("results").column("image").to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]


def test_parts_of_another_run_are_never_replaced(output: Output) -> None:
    record(output, FIRST, rows=1)
    with pytest.raises(OutputError, match="exists already"):
        record(output, FIRST, rows=1)


@pytest.mark.parametrize("job", ["receipts", "hóa-đơn"])
def test_the_same_on_s3(s3_server: S3Server, tmp_path: Path, job: str) -> None:
    output = open_output(f"s3://{s3_server.bucket}/{tmp_path.name}")
    record(output, FIRST, rows=6, job=job)
    record(output, SECOND, rows=3, job=job)
    listed = s3_server.client().list_objects_v2(Bucket=s3_server.bucket, Prefix=f"{tmp_path.name}/")["Contents"]
    assert sorted(found["Key"].split("/", 2)[2] for found in listed if found["Size"]) == [
        f"job={job}/run={FIRST}/part-00000.parquet",
        f"job={job}/run={FIRST}/part-00001.parquet",
        f"job={job}/run={SECOND}/part-00000.parquet",
    ]
    frame = pd.read_parquet(output.join(f"results/job={job}"))
    assert sorted(frame["run_id"].unique()) == [FIRST, SECOND]
    assert set(output.read_table("results").column("run_id").to_pylist()) == {FIRST, SECOND}
    assert output.read_table("results").num_rows == 9


def test_text_that_utf8_cannot_hold_is_written_with_backslashes(output: Output) -> None:
    """A local name need not be Unicode, and JSON allows half a surrogate pair in an answer."""
    odd = row(1, image="/in/caf\udce9.jpg", answer='{"text": "\ud83d"}')
    with TableWriter(output, "results", "receipts", FIRST, RECEIPT) as writer:
        writer.add([row(0), odd, row(2, answer=None)])
    table = output.read_table(f"results/job=receipts/run={FIRST}")
    assert table["image"].to_pylist() == ["receipts/0000.jpg", r"/in/caf\udce9.jpg", "receipts/0002.jpg"]
    assert table["answer"].to_pylist() == [None, r'{"text": "\ud83d"}', None]
