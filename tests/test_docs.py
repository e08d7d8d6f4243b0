"""What the READMEs say is true: commands, options, tables, presets, messages, links, and code that runs."""

import argparse
import ast
import json
import re
import shlex
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from config.endpoints import endpoint
from config.job import Job
from config.presets import preset, preset_names, ready_schemas
from config.prices import prices_of
from flows.cli.arguments import parser
from flows.cli.jobs import check_tables, load_job
from tasks.orchestration.ending import ENDS
from tasks.orchestration.summary import summary_of
from tasks.recording.tables import STATUSES, TABLES, answer_columns
from tasks.recording.writer import TableFile, TableWriter, write_table_file
from tasks.schemas import load_schema
from tasks.storage.output import Output, open_output
from tests.own_tables import OwnTables, own_tables
from tests.pages import CODE, MANUAL, ROOT, blocks, first_cells, section, table_rows, without_code
from tests.report_run import make_run

__all__ = ["own_tables"]  # a fixture


@cache
def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (choices,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(choices)


def options(command: str) -> dict[str, argparse.Action]:
    """The long options of a command."""
    actions = command_parsers()[command]._actions
    return {name: action for action in actions for name in action.option_strings if name.startswith("--")}


class TestCommandLine:
    def test_every_command_stands_in_the_readme_and_no_other(self) -> None:
        told = {cell.split()[1] for cell in first_cells("Commands") if cell.startswith("visionflow ")}
        assert told == set(command_parsers())

    def test_the_table_of_options_is_that_of_run(self) -> None:
        real = {f"{name} {action.metavar or ''}".strip() for name, action in options("run").items() if name != "--help"}
        assert set(first_cells("Options of run")) == real

    def test_no_option_is_named_that_does_not_exist(self) -> None:
        real = {name for command in command_parsers() for name in options(command)}
        other_programs = re.compile(r"\b(docker|pip|prefect)\b")
        lines = [line for line in MANUAL.splitlines() if not other_programs.search(line)]
        assert {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)} <= real

    @pytest.mark.parametrize(
        "command", ["demo", "estimate", "compare", "report", "export", "check", "simulate", "prices", "serve"]
    )
    def test_what_the_other_commands_add_is_told(self, command: str) -> None:
        known = {name.split()[0] for name in first_cells("Options of run")}
        added = [name for name in options(command) if name not in known and name != "--help"]
        assert [name for name in added if f"{name} " not in MANUAL and f"{name}`" not in MANUAL] == []

    def test_every_command_line_shown_can_be_typed(self) -> None:
        shown = [line for block in blocks("") for line in block.splitlines()]
        shown += re.findall(r"`(visionflow [^`]+)`", without_code())
        lines = [shlex.split(line, comments=True)[1:] for line in shown if line.startswith("visionflow ")]
        assert len(lines) > 10
        for line in lines:
            parser().parse_args(["report", "OUTPUT"] if line == ["report"] else line)

    def test_exit_statuses(self) -> None:
        told = {int(row[0]) for row in table_rows(section("Exit status")) if row[0].isdecimal()}
        assert told == {*(end.exit_status for end in ENDS.values()), 2}

    def test_the_job_file_loads_and_names_every_setting_without_an_option(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (block,) = blocks("yaml")
        (tmp_path / "receipts.yaml").write_text(block, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        source, output, job = load_job(parser().parse_args(["run", "--job", "receipts.yaml"]))
        assert (source, output, job.max_cost) == ("photos/receipts", "out/facts", Decimal(5))
        destinations = {action.dest for action in options("run").values()}
        fields = {field.alias or name for name, field in Job.model_fields.items()}
        assert fields - destinations <= set(re.findall(r"^(\w+):", block, re.MULTILINE))

    def test_the_summary_has_these_keys(self, tmp_path: Path) -> None:
        """Those of `report`, which are those of `run` (tests/cli/test_command_line.py)."""
        made = make_run(rows=20)
        summary = summary_of(open_output(str(tmp_path)), made.run, made.costs)
        told = first_cells("Summary")
        assert sorted(told) == sorted(summary)

    def test_make_targets(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        real = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
        told = set(re.findall(r"`make ([a-z-]+)`", MANUAL)) | set(re.findall(r"^make ([a-z-]+)", MANUAL, re.MULTILINE))
        assert told == real


class TestTables:
    @pytest.mark.parametrize("table", TABLES)
    def test_columns(self, table: str) -> None:
        told = [name for name in first_cells(table) if name not in STATUSES or table == "runs"]
        real = set(TABLES[table].names) | (
            {field.name for field in answer_columns(pa.string())} if table == "results" else set()
        )
        assert set(told) == real
        assert len(told) == len(real), "a column stands there twice"

    def test_statuses(self) -> None:
        assert set(first_cells("results")) & set(STATUSES) == set(STATUSES)

    def test_presets(self) -> None:
        rows = [row for row in table_rows(section("Presets")) if row[0].startswith("`")]
        told = [(row[0].strip("`"), *map(int, row[1:4])) for row in rows]
        real = [preset(name) for name in preset_names()]
        assert told == [(one.name, one.max_edge, one.quality, one.max_tokens) for one in real]

    def test_ready_schemas(self) -> None:
        (line,) = re.findall(r"^- a ready one of .*", MANUAL, re.MULTILINE)
        assert re.findall(r"`(\w+)`", line) == ready_schemas()


class TestExamples:
    def test_toml_blocks_are_rows_of_a_users_own_tables(self, own_tables: OwnTables) -> None:
        shelf, gateway, price = blocks("toml")
        own_tables(presets=shelf, endpoints=gateway, prices=price)
        check_tables()
        assert preset("shelf").schema in ready_schemas()
        where = endpoint("mygateway")
        assert endpoint(where.base_url) == where
        (row,) = prices_of(where.prices, "claude-sonnet-5-5")
        assert row.endpoint == where.name

    def test_the_pydantic_model_is_a_schema(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (block,) = (block for block in blocks("python") if "BaseModel" in block)
        (tmp_path / "facts.py").write_text(block, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        struct = load_schema("facts:Receipt").arrow
        assert [struct.field(name).type for name in ("company", "bought")] == [pa.string(), pa.date32()]
        assert pa.types.is_decimal(struct.field("total").type)
        sys.modules.pop("facts")

    def test_recipes_find_what_they_say(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        output = open_output(str(tmp_path / "out/facts"))
        for day in (1, 2):
            record_run(output, f"2026112{day}T000000Z-aaaa", "receipt")
        newest = ("good.jpg", "KOPI of 20261122T000000Z-aaaa", TOTAL)
        monkeypatch.chdir(tmp_path)

        with duckdb.connect() as connection:
            spent, found = (
                connection.execute(one).fetchall() for one in ";".join(blocks("sql")).split(";") if one.strip()
            )
        assert sum(row[-1] for row in spent) == 2 * CALL_USD
        assert found == [newest]

        names: dict[str, Any] = {}
        for block in blocks("python"):
            if (
                "BaseModel" not in block and "analyze_images" not in block
            ):  # tests/end_to_end/test_calling.py runs that one
                exec(compile(block, "README.md", "exec"), names)
        assert names["failed"].values.tolist() == [["bad.jpg", "unreadable", "It is no image."]] * 2
        assert names["total"] == TOTAL
        assert names["companies"].rows() == [newest[:2]]

    def test_what_is_said_of_how_pandas_and_duckdb_read(self, tmp_path: Path) -> None:
        output = open_output(str(tmp_path))
        for run_id in ("20261121T000000Z-aaaa", "20261122T000000Z-aaaa"):
            record_run(output, run_id, "receipt")
        every = pd.read_parquet(tmp_path / "results/job=receipts")
        assert (every["run"].astype(str) == every["run_id"]).all()
        with duckdb.connect() as connection:
            query = f"SELECT run = run_id FROM '{tmp_path}/results/**/*.parquet'"
            assert connection.execute(query).fetchall() == [(True,)] * 4
        one = tmp_path / "results/job=receipts/run=20261121T000000Z-aaaa"
        plain, typed = pd.read_parquet(one), pd.read_parquet(one, dtype_backend="pyarrow")
        assert (str(plain["sent_width"].dtype), str(typed["sent_width"].dtype)) == ("float64", "int32[pyarrow]")
        assert (str(plain["cost_usd"].dtype), str(typed["cost_usd"].dtype)) == ("object", "decimal128(18, 9)[pyarrow]")
        assert "run" not in typed


TOTAL, CALL_USD = Decimal("9.000000000"), Decimal("0.000485000")
ANSWERED: dict[str | None, Any] = {
    None: lambda run_id: None,
    "receipt": lambda run_id: {"company": f"KOPI of {run_id}", "total": TOTAL},
    "invoice": lambda run_id: {"number": "INV-1", "total": Decimal(1)},
}


def record_run(output: Output, run_id: str, schema: str | None, *, status: str = "completed_with_failures") -> None:
    """The tables of a run of the job `receipts`: one good answer, one bad file, one call."""
    result_type = load_schema(schema).arrow if schema else None
    result = {"result": ANSWERED[schema](run_id)} if schema else {}
    good = {"name": "good.jpg", "page": 1, "status": "ok", "sent_width": 1176, "cost_usd": CALL_USD}
    bad = {"name": "bad.jpg", "page": 1, "status": "unreadable", "error": "It is no image.", "cost_usd": Decimal(0)}
    with TableWriter(output, "results", "receipts", run_id, result_type) as results:
        results.add([{**good, **result}, bad])
    with TableWriter(output, "calls", "receipts", run_id) as calls:
        calls.add([{"outcome": "answered", "paid": "yes", "cost_usd": CALL_USD}])
    settings = json.dumps(Job(answer_schema=schema).model_dump(mode="json", by_alias=True))
    row = {"run_id": run_id, "status": status, "settings": settings}
    write_table_file(TableFile(output, "runs", "receipts", run_id, "run.parquet"), [row])


class TestMessages:
    def test_every_message_in_troubleshooting_is_one_that_the_code_prints(self) -> None:
        messages = [
            message
            for row in table_rows(section("Troubleshooting"))
            for message in re.findall(r"`([^`]+)`", row[0])
            if " " in message or "…" in message
        ]
        assert len(messages) > 30
        assert [message for message in messages if not any(says(text, message) for text in code_texts())] == []


def says(text: str, message: str) -> bool:
    """Whether the text holds the message's words in their order; … stands for anything."""
    at = 0
    for words in filter(None, message.split("…")):
        at = text.find(words, at)
        if at < 0:
            return False
        at += len(words)
    return True


@cache
def code_texts() -> tuple[str, ...]:
    """Every text in the code that is more than a word, with … for what is filled in."""
    texts: set[str] = set()
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return tuple(text for text in texts if " " in text)
