"""One run as one HTML page: nothing fetched, every word from outside escaped, no script but ours, known by its hash."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.billing import pricing
from tasks.recording.writer import run_folder
from tasks.reporting import charts, figures, gallery
from tasks.reporting.gallery import Gallery
from tasks.schemas.boxes import corners, named_boxes
from tasks.storage.output import Output

NO_VALUE = "–"
SCRIPT = files("tasks.reporting").joinpath("report.js").read_text(encoding="utf-8").strip()
SCRIPT_HASH = base64.b64encode(sha256(SCRIPT.encode()).digest()).decode()


def render_report(
    run: Mapping[str, Any],
    costs: Iterable[Mapping[str, Any]],
    results: Iterable[pa.Table],
    calls: pa.Table,
    shown: Gallery,
) -> str:
    """The page about one run, from its rows of the tables `runs`, `costs`, `results` (in parts) and `calls`.

    Of results and calls only RESULT_COLUMNS and CALL_COLUMNS are needed; `shown` are the rows that stand there
    with their answers and the small pictures of their images: the page of 100,000 images is not longer than that of
    10,000.
    """
    costs = list(costs)
    totals = figures.cost_totals(costs)
    shares = figures.shares(run)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            shares=shares,
            ok=run["ok"] or 0,
            failed=sum(share.count for share in shares if share.name not in ("ok", "unasked")),
            costs=costs,
            totals=totals,
            savings=figures.savings(totals),
            results=figures.result_figures(results),
            counts=figures.call_counts(calls),
            outcomes=figures.outcomes(calls),
            steps=figures.steps(calls),
            latency=charts.histogram(calls["latency_ms"].filter(charts.was_answered(calls))),
            in_flight=charts.in_flight(calls),
            answered=charts.answered(calls),
            shown=shown,
            script=SCRIPT,
            script_hash=SCRIPT_HASH,
            settings=parsed(run["settings"]),
            versions=parsed(run["versions"]),
            folders={table: folder(run, table) for table in ("results", "calls", "costs", "runs")},
        )
    )


@cache
def environment() -> Environment:
    """The templates beside this module; a name that is not there is an error, not a blank."""
    made = Environment(
        loader=PackageLoader("tasks.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "usd": usd,
        "cny": cny,
        "duration": duration,
        "percent": percent,
        "places": places,
        "tick": tick,
        "moment": moment,
        "python": repr,
        "sql": sql,
        "pretty": figures.pretty,
        "people": gallery.people,
        "differing": gallery.differing,
        "shape": gallery.shape,
        "boxes": lambda value: list(named_boxes(value)),
        "evidence": lambda row: list(gallery.evidence(row)),
        "corners": corners,
        "link": gallery.link,
    }
    return made


def folder(run: Mapping[str, Any], table: str) -> str:
    """Where the run's part of a table lies."""
    return f"{run['output'].rstrip('/')}/{run_folder(table, run['job'], run['run_id'])}"


def parsed(text: str | None) -> dict[str, Any]:
    """A JSON object's items; whatever else it is, under one name."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"value": value}


def number(value: int | None) -> str:
    """A count as people write it."""
    return NO_VALUE if value is None else f"{value:,}"


def usd(value: Decimal | int | None, places: int = 2) -> str:
    """Dollars."""
    return NO_VALUE if value is None else pricing.usd(value, places)


def cny(value: Decimal | int | None, places: int = 2) -> str:
    """Yuan."""
    return NO_VALUE if value is None else pricing.cny(value, places)


def places(values: Iterable[Decimal | int | None]) -> int:
    """The decimals that the longest of these amounts needs, so that a column has its points one under another."""
    return max((len(usd(value).rpartition(".")[2]) for value in values if value is not None), default=2)


def percent(part: float, whole: float = 100) -> str:
    """A share to a tenth; one that is too small to show is not shown as none."""
    share = 100 * part / whole
    return "under 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def tick(seconds: float) -> str:
    """A round time, for an axis."""
    return f"{seconds:g} s" if seconds < 60 else duration(seconds)


def duration(seconds: float | None) -> str:
    """A time as a person says it: 0.84 s, 8.4 s, 31 s, 4 min 12 s, 2 h 3 min."""
    if seconds is None:
        return NO_VALUE
    if seconds < 59.5:
        return f"{seconds:.{0 if seconds >= 10 else 1 if seconds >= 1 else 2}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(time: datetime | None) -> str:
    """A moment, in UTC."""
    return NO_VALUE if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def sql(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


ROWS_AT_ONCE = 1000  # rows


def write_report(output: Output, job: str, run_id: str, *, pictures: bool = True) -> str:
    """Write `report.html` of a run that has ended, from its tables and, for small pictures, its images; its URI."""
    run = output.read_table(f"{run_folder('runs', job, run_id)}/run.parquet").to_pylist()[0] | {"job": job}
    costs = output.read_table(f"{run_folder('costs', job, run_id)}/costs.parquet").to_pylist()
    rows, calls = run_folder("results", job, run_id), run_folder("calls", job, run_id)
    shown = gallery.gallery(output.read_batches(rows, ROWS_AT_ONCE), run["ok"] or 0)
    wanted = pictures and not parsed(run["settings"]).get("no_thumbnails")
    if wanted:
        shown.pictures = gallery.thumbnails(shown.pictured)
    page = render_report(
        run,
        costs,
        results=output.read_parts(rows, figures.RESULT_COLUMNS),
        calls=pa.concat_tables(output.read_parts(calls, figures.CALL_COLUMNS)),
        shown=shown,
    )
    path = f"{run_folder('reports', job, run_id)}/report.html"
    output.write_text(path, page)
    return output.join(path)
