"""Writing the report of a run from its tables."""

from tasks.recording import run_folder
from tasks.reporting.html import render_report
from tasks.storage import Output


def write_report(output: Output, job: str, run_id: str) -> str:
    """Write `report.html` of a run that has ended, from its Parquet tables alone, and return its URI."""
    run = output.read_table(f"{run_folder('runs', job, run_id)}/run.parquet").to_pylist()[0]
    costs = output.read_table(f"{run_folder('costs', job, run_id)}/costs.parquet").to_pylist()
    results = output.read_table(run_folder("results", job, run_id))
    calls = output.read_table(run_folder("calls", job, run_id))
    path = f"{run_folder('reports', job, run_id)}/report.html"
    output.write_text(path, render_report(run, costs, results, calls))
    return output.join(path)
