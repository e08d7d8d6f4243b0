"""Writing the report of a run from its tables."""

import pyarrow as pa

from tasks.recording.writer import run_folder
from tasks.reporting import figures
from tasks.reporting.html import render_report
from tasks.storage.output import Output

SAMPLE_ROWS = 500


def write_report(output: Output, job: str, run_id: str) -> str:
    """Write `report.html` of a run that has ended, from its Parquet tables alone, and return its URI."""
    run = output.read_table(f"{run_folder('runs', job, run_id)}/run.parquet").to_pylist()[0] | {"job": job}
    costs = output.read_table(f"{run_folder('costs', job, run_id)}/costs.parquet").to_pylist()
    rows, calls = run_folder("results", job, run_id), run_folder("calls", job, run_id)
    page = render_report(
        run,
        costs,
        results=output.read_parts(rows, figures.RESULT_COLUMNS),
        calls=pa.concat_tables(output.read_parts(calls, figures.CALL_COLUMNS)),
        samples=_samples(output, rows),
    )
    path = f"{run_folder('reports', job, run_id)}/report.html"
    output.write_text(path, page)
    return output.join(path)


def _samples(output: Output, folder: str) -> pa.Table:
    """The first rows among which there is a good answer: answers are most of a table, and only a few are shown."""
    for rows in output.read_batches(folder, SAMPLE_ROWS):
        if "ok" in rows["status"].unique().to_pylist():
            break
    return rows
