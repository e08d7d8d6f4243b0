"""A job's folder reads as one dataset, in any reader, with no option and no value lost, whatever runs it holds."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from flows import read_calls, read_results
from tasks.errors import UsageError
from tasks.recording.reading_back import newest_answers
from tasks.recording.tables import RESULTS
from tasks.recording.writer import TableWriter, jobs_for, table_schema, to_table
from tasks.schemas.loading import build_schema
from tasks.storage.output import Output, open_output

LINE = {"type": "object", "properties": {"name": {"type": "string"}, "price": {"type": "string", "format": "decimal"}}}
SCHEMA = build_schema(
    "receipts",
    {
        "type": "object",
        "properties": {
            "company": {"type": "string"},
            "kind": {"enum": ["cash", "card"]},
            "lines": {"type": "array", "items": LINE},
            "date": {"type": "string", "format": "date"},
            "shop": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    label="receipts",
)
ANSWER = (
    '{"company": "WARUNG", "kind": "card", "lines": [{"name": "teh", "price": "1.20"}], "date": "2018-12-25", '
    '"shop": {"city": "Huế"}}'
)
TYPED = SCHEMA.fit(ANSWER).value


def record(output: Output, run: str, images: Mapping[str, Any], *, typed: bool = True, job: str = "receipts") -> str:
    """One run's results, in the job that takes them: an answer for each image, or None where it failed."""
    kind = SCHEMA.arrow if typed else None
    job = jobs_for(output, job, kind)[-1]
    with TableWriter(output, "results", job, run, kind) as writer:
        for image, answer in images.items():
            row = {"image": image, "page": 1, "status": "ok" if answer else "unavailable", "cost_usd": Decimal(1)}
            writer.add([{**row, ("result" if typed else "answer"): answer}])
    return job


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Output:
    """A job asked in text, with a schema, in text again, and with the schema without one good answer."""
    output = open_output(str(tmp_path_factory.mktemp("out")))
    assert record(output, "20261121T000000Z-aaaa", {"0.jpg": "text"}, typed=False) == "receipts"
    assert record(output, "20261122T000000Z-aaaa", {"1.jpg": TYPED, "2.jpg": TYPED}) == "receipts-2"
    assert record(output, "20261123T000000Z-aaaa", {"0.jpg": "more text"}, typed=False) == "receipts"
    assert record(output, "20261124T000000Z-aaaa", {"1.jpg": None, "2.jpg": None}) == "receipts-2"
    return output


def with_pandas(folder: str) -> Any:
    return pd.read_parquet(folder).to_dict("records")


def with_dataset(folder: str) -> Any:
    return ds.dataset(folder).to_table().to_pylist()


def with_hive(folder: str) -> Any:
    return ds.dataset(folder, partitioning="hive").to_table().to_pylist()


def with_pyarrow(folder: str) -> Any:
    return pq.read_table(folder).to_pylist()


def with_duckdb(folder: str) -> Any:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"select * from '{folder}/**/*.parquet'")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def with_polars(folder: str) -> Any:
    return pytest.importorskip("polars").scan_parquet(folder).collect().to_dicts()


def with_datafusion(folder: str) -> Any:
    context = pytest.importorskip("datafusion").SessionContext()
    return pa.Table.from_batches(context.read_parquet(folder).collect()).to_pylist()


def with_dask(folder: str) -> Any:
    return pytest.importorskip("dask.dataframe").read_parquet(folder).compute().to_dict("records")


def with_daft(folder: str) -> Any:
    return pytest.importorskip("daft").read_parquet(f"{folder}/**/*.parquet").to_pylist()


def with_hugging_face(folder: str) -> Any:
    datasets = pytest.importorskip("datasets")
    return list(datasets.load_dataset("parquet", data_dir=folder, split="train", cache_dir=f"{folder}/../../.cache"))


READERS = [
    *(with_pandas, with_dataset, with_hive, with_pyarrow, with_duckdb, with_polars),
    *(with_datafusion, with_dask, with_daft, with_hugging_face),
]
Reader = Callable[[str], list[dict[str, Any]]]


def by_name(reader: Reader) -> str:
    return reader.__name__.removeprefix("with_")


@pytest.mark.parametrize("read", READERS, ids=by_name)
def test_no_value_of_a_job_is_lost(read: Reader, output: Output) -> None:
    rows = read(output.join("results/job=receipts-2"))
    assert len(rows) == 4 and {row["run_id"] for row in rows} == {"20261122T000000Z-aaaa", "20261124T000000Z-aaaa"}
    good = [row["result"] for row in rows if row["status"] == "ok"]
    assert len(good) == 2
    for result in good:
        assert (result["company"], result["kind"], str(result["date"])[:10]) == ("WARUNG", "card", "2018-12-25")
        assert [(line["name"], Decimal(line["price"])) for line in result["lines"]] == [("teh", Decimal("1.2"))]
        assert result["shop"]["city"] == "Huế"
    text = read(output.join("results/job=receipts"))
    assert sorted(row["answer"] for row in text) == ["more text", "text"]


def test_over_all_jobs_rows_read_too(output: Output) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    folder = output.join("results")
    for rows in (
        pd.read_parquet(folder, columns=["image", "job"]),
        duckdb.sql(f"select image, job from '{folder}/**/*.parquet'").df(),
        polars.scan_parquet(folder).select("image", "job").collect().to_pandas(),
    ):
        assert sorted(rows["job"].astype(str)) == ["receipts"] * 2 + ["receipts-2"] * 4


def test_a_typed_job_has_the_columns_of_later_options() -> None:
    schema = table_schema("results", SCHEMA.arrow)
    names = [field.name for field in SCHEMA.arrow]
    later = ["result", "agreement", "needs_review", "second_answer", "evidence"]
    assert schema.names == [*RESULTS.names[: at()], *later, *rest()]
    assert schema.field("agreement").type == pa.struct([(name, pa.float64()) for name in names])
    assert {field.name for field in schema.field("evidence").type} == set(names)
    assert [side.name for side in schema.field("evidence").type[0].type] == ["page", "left", "top", "right", "bottom"]
    assert "job" not in schema.names


def at() -> int:
    return int(RESULTS.get_field_index("answer")) + 1


def rest() -> list[str]:
    return list(RESULTS.names[at() :])


def test_one_run_one_job_or_all(output: Output) -> None:
    everything = read_results(output.uri)
    assert len(everything) == 6 and all(isinstance(kind, pd.ArrowDtype) for kind in everything.dtypes)
    assert sorted(set(everything["job"])) == ["receipts", "receipts-2"]
    assert len(read_results(output.uri, "receipts-2", as_arrow=True)) == 4
    assert len(read_results(output.uri, run="20261122T000000Z-aaaa")) == 2
    with pytest.raises(UsageError, match=r"No results of job recipts in .*There are the jobs: receipts, receipts-2\."):
        read_results(output.uri, "recipts")
    with pytest.raises(UsageError, match=r"No calls in .*Check the output\."):
        read_calls(output.uri)


def test_latest_is_the_newest_good_answer_of_each_image(output: Output) -> None:
    latest = read_results(output.uri, "receipts-2", latest=True)
    assert list(latest["image"]) == ["1.jpg", "2.jpg"], "the newer run has no answer of these"
    assert set(latest["run_id"]) == {"20261122T000000Z-aaaa"}
    assert list(read_results(output.uri, "receipts", latest=True)["answer"]) == ["more text"]


@pytest.mark.parametrize(
    ("runs", "newest"),
    [
        (("20261129T120000Z-100-aaaa", "20261129T120000Z-900-aaaa"), 1),  # which has the older answer from before
        (("20261129T120000Z-bbbb", "20261129T120000Z-aaaa"), 0),  # of ids that tell only the second, the newer answer
        (("20261129T120000Z-bbbb", "20261129T120001Z-000-aaaa"), 1),
    ],
)
def test_of_two_runs_in_one_second_the_later_is_the_newest(runs: tuple[str, str], newest: int) -> None:
    answered = [datetime(2026, 11, 29, 12, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)]
    columns = {"job": ["j", "j"], "image": ["a", "a"], "page": [1, 1], "status": ["ok", "ok"], "answered_at": answered}
    found = newest_answers(pa.table({**columns, "run_id": list(runs)}))
    assert found["run_id"].to_pylist() == [runs[newest]]


def test_tables_of_the_first_release_are_read_and_left_alone(tmp_path: Path) -> None:
    """It wrote the column `job`, kept choices as dictionaries, and mixed runs with and without a schema."""
    output = open_output(str(tmp_path))
    named = pa.dictionary(pa.int32(), pa.string())
    old = RESULTS.insert(RESULTS.get_field_index("run_id"), pa.field("job", named))
    typed = old.append(pa.field("result", pa.struct([("kind", named), ("total", pa.int64())])))
    row = {"page": 1, "status": "ok", "job": "receipts"}
    for run, schema, more in (("a", old, {}), ("b", typed, {"result": {"kind": "card", "total": 3}})):
        table = to_table([{**row, "image": f"{run}.jpg", "run_id": run, **more}], schema)
        output.write_table(f"results/job=receipts/run={run}/part-00000.parquet", table)
    read: Any = read_results(output.uri, as_arrow=True)
    assert [(row["job"], row["result"]) for row in read.sort_by("image").to_pylist()] == [
        ("receipts", None),
        ("receipts", {"kind": "card", "total": 3}),
    ]
    assert record(output, "c", {"c.jpg": TYPED}) == "receipts-2"
    assert len(read_results(output.uri)) == 3
