"""The report: true figures, nothing from outside taken for markup, a page that stays small and needs no network."""

import re
import time
from collections import Counter
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.recording.writer import TableFile, run_folder, to_table, write_table_file
from tasks.reporting import figures, html
from tasks.reporting.gallery import gallery
from tasks.reporting.html import render_report, write_report
from tasks.storage.output import open_output
from tasks.storage.reading import file_etag
from tests.report_run import MadeRun, make_run
from tests.runs import draw, picture

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def rendered(made: MadeRun, **changes: Any) -> str:
    run = made.run | changes
    return render_report(run, made.costs, [made.results], made.calls, gallery([made.results], run["ok"] or 0))


def page_of(made: MadeRun, **changes: Any) -> Page:
    """The rendered report, after it has been parsed: every element that was opened was closed."""
    page = Page(rendered(made, **changes))
    assert page.open == []
    page.text = " ".join(page.text.split())
    return page


@pytest.fixture(scope="module")
def large() -> MadeRun:
    return make_run(5000)


def changed(table: pa.Table, column: str, value: Any) -> pa.Table:
    """The table with one value in every row of a column."""
    index = table.schema.get_field_index(column)
    return table.set_column(
        index, table.schema.field(index), pa.array([value] * table.num_rows, table.schema.types[index])
    )


def test_the_headline_is_the_run(large: MadeRun) -> None:
    text = page_of(large).text
    failed = large.run["rows"] - large.run["ok"]
    assert f"{large.run['ok']:,} of 5,000 images answered, {failed:,} failed" in text
    assert f"Cost{html.usd(large.run['cost_usd'])} {html.cny(large.run['cost_cny'])}" in text
    assert f"Calls{large.calls.num_rows:,}" in text
    assert "Simulated" not in text


def test_a_simulated_run_says_so_first() -> None:
    text = page_of(make_run(12, simulated=True)).text
    assert text.index("Simulated: no dollars were spent.") < text.index("12 of 12")
    assert "Would have cost" in text


def test_the_cost_table_adds_up_to_the_last_digit() -> None:
    made = make_run(12)
    made.costs.append({**made.costs[0], "model": "claude-sonnet-5-5", "cost_usd": Decimal("0.000000001"), "images": 1})
    total = made.costs[0]["cost_usd"] + Decimal("0.000000001")
    assert f"{total:.9f}" in page_of(made).text


def test_what_was_saved_and_what_may_have_been_paid_is_said(large: MadeRun) -> None:
    text = page_of(large).text
    maybe = large.costs[0]["calls_maybe_paid"]
    assert maybe > 1
    assert f"{maybe} calls were sent without an answer being seen" in text
    assert "answers kept from earlier runs" in text
    assert html.usd(large.costs[0]["saved_kept_usd"]) in text
    assert "batch prices" not in text  # nothing was saved that way


def test_failures_are_counted_whole_and_listed_in_part() -> None:
    made = make_run(1000, failing=0.5)
    page = page_of(made)
    failed = made.run["rows"] - made.run["ok"]
    keys = [attributes for tag, attributes in page.elements if tag == "td" and attributes.get("data-label") == "Status"]
    assert failed > len(keys) == 200
    assert f"The first 200 of {failed:,}" in page.text
    first = next(row for row in made.results.to_pylist() if row["status"] != "ok")
    assert first["name"] in page.text
    assert first["error"] in page.text


def test_a_failed_image_is_named_once_with_its_reason(large: MadeRun) -> None:
    named = Counter(row["name"] for row in large.results.to_pylist() if row["status"] != "ok")
    found = [unescape(name) for name in re.findall(r'data-name="([^"]+)"', rendered(large))]
    assert {name: found.count(name) for name in named} == named
    assert len(found) == len(set(found)) == large.results.num_rows


def test_what_a_model_and_a_step_cost_is_told_where_there_are_several() -> None:
    made = make_run(12, failing=0)
    assert "Model and step" not in page_of(made).text
    model = "claude-sonnet-5-5"
    again = changed(changed(made.calls.slice(0, 3), "step", 1), "model", model)
    second = changed(changed(made.calls.slice(0, 2), "step", -1), "model", model)
    text = page_of(MadeRun(made.run, made.costs, made.results, pa.concat_tables([second, made.calls, again]))).text
    spent = [html.usd(sum(calls["cost_usd"].to_pylist(), Decimal(0)), 7) for calls in (again, second)]
    assert f"{model}fallback 13{spent[0]} {model}second reading2{spent[1]}" in text


def test_images_that_were_not_asked_are_no_failures() -> None:
    made = make_run(12, failing=0)
    unasked = MadeRun(
        made.run | {"ok": 0, "unasked": 12}, [], changed(made.results, "status", "unasked"), made.calls.slice(0, 0)
    )
    text = page_of(unasked, status="paused", message="The budget of $5 is used up; run it again to go on.").text
    assert "0 of 12 images answered, 12 not asked" in text
    assert "The budget of $5 is used up" in text
    assert "Failures" not in text


@pytest.mark.parametrize("column", ["answer", "name", "image", "error", "error_code", "note", "status"])
def test_words_from_outside_stay_words(column: str) -> None:
    made = make_run(40, failing=0.3)
    results = changed(made.results.drop_columns("result"), column, ATTACK)
    page = page_of(MadeRun(made.run, made.costs, results, made.calls))
    assert_harmless(page)
    if column in ("answer", "name", "error"):
        assert "<script>alert(1)</script>" in page.text  # shown, not dropped


def test_typed_results_settings_and_calls_stay_words_too() -> None:
    made = make_run(12)
    result = pa.array([{"company": ATTACK}] * 12, pa.struct([("company", pa.string())]))
    results = made.results.drop_columns("result").append_column("result", result)
    calls = changed(changed(made.calls, "error", ATTACK), "model", ATTACK)
    attacked = MadeRun(made.run, [made.costs[0] | {"model": ATTACK}], results, calls)
    page = page_of(attacked, settings='{"prompt": "</dd></dl><script>1</script>"}', source=ATTACK, message=ATTACK)
    assert_harmless(page)
    assert "<script>1</script>" in page.text


def assert_harmless(page: Page) -> None:
    assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "link", "base", "form"}
    assert [tag for tag, _ in page.elements].count("script") == 1, "ours"
    links = [attributes["href"] or "" for tag, attributes in page.elements if tag == "a"]
    assert all(link.startswith(("s3://", "file:///")) for link in links)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_nothing_is_fetched(large: MadeRun) -> None:
    source = rendered(large)
    assert "default-src 'none'" in source
    assert not re.search(r"@import|url\(|\bsrc=|\bhref=\"(?!s3://acme/)", source)
    assert f"script-src 'sha256-{html.SCRIPT_HASH}'" in source and f"<script>{html.SCRIPT}</script>" in source


def test_a_name_cannot_turn_the_line_around() -> None:
    made = make_run(12)
    results = changed(made.results, "name", "invoice\u202egpj.exe")
    source = rendered(MadeRun(made.run, made.costs, results, made.calls))
    assert re.search("<bdi[^>]*>invoice\u202egpj.exe</bdi>", source)


def test_pages_are_named_only_where_an_image_has_several() -> None:
    rows = make_run(4, failing=0).results.to_pylist()
    for page, row in enumerate(rows[1:], start=1):
        row |= {"page": page, "image": "s3://acme/scan.tif", "name": "scan.tif"}
    made = make_run(4, failing=0)
    several = MadeRun(made.run | {"images": 2}, made.costs, to_table(rows, made.results.schema), made.calls)
    text = page_of(several).text
    assert "4 of 4 pages answered" in text
    assert "scan.tif page 3" in text
    assert f"{rows[0]['name']} page" not in text


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_it_does_not_matter_how_the_rows_are_cut_into_parts(rows: int) -> None:
    made = make_run(300, failing=0.2)
    several = made.results.to_pylist()
    for page, row in enumerate(several[50:90], start=1):
        row |= {"page": page, "image": "s3://acme/scan.tif", "name": "scan.tif"}
    results = to_table(several, made.results.schema)
    parts = [results.slice(start, rows) for start in range(0, 300, rows)]
    assert figures.result_figures(parts) == figures.result_figures([results])


def test_a_run_without_a_single_image() -> None:
    made = make_run(12)
    none = dict.fromkeys(("ok", "unreadable", "rejected", "refused", "truncated", "invalid", "unavailable"), 0)
    empty = MadeRun(
        made.run | none | {"images": 0, "rows": 0, "calls": 0}, [], made.results.slice(0, 0), made.calls.slice(0, 0)
    )
    text = page_of(empty, seconds=None, finished_at=None, status="stopped", cost_usd=Decimal(0)).text
    assert "0 of 0 images answered" in text
    assert "Nothing was asked, so nothing was paid." in text


def test_the_queries_shown_run(tmp_path: Path) -> None:
    made = make_run(60, failing=0.2)
    output = f"{tmp_path}/it's here"
    run = made.run | {"output": output}
    for name, table in (("results", made.results), ("calls", made.calls)):
        folder = Path(output) / run_folder(name, run["job"], run["run_id"])
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part-00000.parquet")
    source = rendered(made, output=output)
    blocks = dict(re.findall(r'<pre class="copy" id="(\w+)">(.*?)</pre>', source, re.DOTALL))

    counted = {row[0]: row[1] for row in duckdb.connect().execute(unescape(blocks["duckdb"])).fetchall()}
    assert counted == {status: run[status] for status in counted}
    assert sum(counted.values()) == 60

    names: dict[str, Any] = {}
    exec(unescape(blocks["pandas"]), names)
    assert isinstance(names["results"], pd.DataFrame)
    assert (len(names["results"]), len(names["calls"])) == (60, made.calls.num_rows)


def test_a_hundred_thousand_rows_make_no_longer_page(large: MadeRun) -> None:
    many = MadeRun(large.run, large.costs, pa.concat_tables([large.results] * 20), pa.concat_tables([large.calls] * 20))
    short = len(rendered(large))
    start = time.perf_counter()
    long = len(rendered(many))
    assert time.perf_counter() - start < 30
    assert short < 5_000_000 and long < 15_000_000


def test_images_stand_beside_their_answers_unless_they_changed_or_nobody_wants_them(tmp_path: Path) -> None:
    """Thumbnails are read again from the originals: of a file that is another by now, there is none."""
    images, made = draw(tmp_path / "images", 3), make_run(3, failing=0)
    output = open_output(str(tmp_path / "out"))
    rows = made.results.to_pylist()
    for row, path in zip(rows, sorted(images.iterdir()), strict=True):
        stat = path.stat()
        row |= {"image": str(path), "name": path.name, "source_bytes": stat.st_size, "source_etag": file_etag(stat)}
    (images / rows[1]["name"]).write_bytes(picture(99))
    (images / rows[2]["name"]).unlink()
    run, job = made.run["run_id"], "receipts"
    output.write_table(f"results/job={job}/run={run}/part-00000.parquet", to_table(rows, made.results.schema))
    output.write_table(f"calls/job={job}/run={run}/part-00000.parquet", made.calls)
    for table, name, row in (("runs", "run", made.run), ("costs", "costs", made.costs[0])):
        write_table_file(TableFile(output, table, job, run, f"{name}.parquet"), [row])

    def page(**options: Any) -> str:
        return Path(write_report(output, job, run, **options)).read_text(encoding="utf-8")

    assert page().count('src="data:image/webp;base64,') == 1 and page().count("no picture") == 2
    assert f'href="{(images / rows[0]["name"]).as_uri()}"' in page()
    assert "<img" not in page(pictures=False)
