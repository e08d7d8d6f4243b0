"""Tables that other programs have written where a run's are: one line that names the file, never a traceback."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.billing.bill import spent_today
from tasks.errors import OutputError
from tasks.recording.tables import COSTS, RESULTS, RUNS, TABLES
from tasks.storage.output import Output, open_output
from tests.report_run import RUN_ID, make_run
from tests.runs import CommandLine

PLACE = {name: f"{name}/job=j/run={RUN_ID}/part-00000.parquet" for name in ("results", "calls")}
PLACE |= {"costs": f"costs/job=j/run={RUN_ID}/costs.parquet", "runs": f"runs/job=j/run={RUN_ID}/run.parquet"}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """A run of ten images."""
    made, output = make_run(10), open_output(str(tmp_path / "out"))
    rows = {
        "results": made.results,
        "calls": made.calls,
        "costs": pa.Table.from_pylist(made.costs, COSTS),
        "runs": pa.Table.from_pylist([made.run], RUNS),
    }
    for name, table in rows.items():
        output.write_table(PLACE[name], table)
    return output


def text_in(name: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, pa.array(["?"] * table.num_rows))

    return change


STRANGE: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "no row": ("runs", lambda table: table.slice(0, 0), "has no row"),
    "no settings": ("runs", lambda table: table.drop_columns(["settings"]), "has no column settings"),
    "empty": ("runs", lambda table: RUNS.empty_table().from_pylist([{}], RUNS), "without a value in run_id"),
    "other": ("results", lambda _: pa.table({"a": [1]}), "has no column image, page, name"),
    "text": ("calls", text_in("started_at"), "has a column started_at that holds string, not timestamp"),
    "a bill of text": ("costs", text_in("cost_usd"), "has a column cost_usd that holds string, not decimal"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_report_of_tables_by_another_program_is_one_line(output: Output, visionflow: CommandLine, name: str) -> None:
    table, change, words = STRANGE[name]
    output.write_table(PLACE[table], change(output.read_table(PLACE[table])))
    line = visionflow.mistake("report", output.uri, status=1)
    assert output.join(PLACE[table]) in line and words in line


def test_so_is_an_export_and_a_table_that_is_not_there(output: Output, visionflow: CommandLine) -> None:
    assert visionflow("export", output.uri, "--to", "jsonl").status == 0
    output.write_table(PLACE["results"], RESULTS.empty_table().drop_columns(["status"]))
    assert visionflow("export", output.uri, "--to", "jsonl").status == 0, "no row has no status"
    output.write_table(PLACE["results"], pa.table({"image": ["a.jpg"]}))
    assert "has no column page" in visionflow.mistake("export", output.uri, "--to", "jsonl", status=1)
    output.write_table(PLACE["results"], RESULTS.empty_table())
    Path(output.join(PLACE["calls"])).unlink()
    assert "There is no table in" in visionflow.mistake("report", output.uri, status=1)


@pytest.mark.parametrize(
    "rows", [{"a": [1]}, {"started_at": ["now"]}, {"started_at": pa.nulls(1, TABLES["calls"].field("started_at").type)}]
)
def test_a_cap_of_a_day_does_not_overlook_calls_that_it_cannot_read(output: Output, rows: dict[str, object]) -> None:
    output.write_table("calls/job=j/run=99990101T000000Z/part-00000.parquet", pa.table(rows))
    with pytest.raises(OutputError, match="is no table of calls as visionflow writes it"):
        spent_today(output, "j")
