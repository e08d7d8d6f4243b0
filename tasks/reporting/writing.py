"""Writing the report of a run from its tables."""

import pyarrow as pa

from tasks.recording.writer import run_folder
from tasks.reporting import figures
from tasks.reporting.gallery import gallery
from tasks.reporting.html import parsed, render_report
from tasks.reporting.thumbnails import thumbnails
from tasks.storage.output import Output

AT_ONCE = 1000  # rows


def write_report(output: Output, job: str, run_id: str, *, pictures: bool = True) -> str:
    """Write `report.html` of a run that has ended, from its tables and, for small pictures, its images; its URI."""
    run = output.read_table(f"{run_folder('runs', job, run_id)}/run.parquet").to_pylist()[0] | {"job": job}
    costs = output.read_table(f"{run_folder('costs', job, run_id)}/costs.parquet").to_pylist()
    rows, calls = run_folder("results", job, run_id), run_folder("calls", job, run_id)
    shown = gallery(output.read_batches(rows, AT_ONCE), run["ok"] or 0)
    wanted = pictures and not parsed(run["settings"]).get("no_thumbnails")
    if wanted:
        shown.pictures = thumbnails(shown.pictured)
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
