"""Which model, preset and prompt is the cheapest that is still right: each variant is an ordinary run, then scored."""

from typing import Any

from prefect import flow

from config.job import Choices, Job
from flows.analyze_images import DEFAULT_JOB, analyze_images
from tasks.orchestration.comparison_run import compared, comparison_name, next_variant, opened
from tasks.orchestration.flow_state import says_how_it_ends
from tasks.orchestration.invoker import accepted

AS_THE_JOB = Choices()


@flow(name="compare", flow_run_name=comparison_name)
@says_how_it_ends
def compare(source: str, output: str, choices: Choices = AS_THE_JOB, job: Job = DEFAULT_JOB) -> dict[str, Any]:
    """Ask every variant about the images that have labels, and hold the answers against them.

    Returns the comparison and the exit status. Answers are kept: the variant that is chosen is not paid for again.

    Args:
        source: Local folder, file, glob, manifest (.csv, .parquet, .txt) or s3://bucket/prefix
        output: Local folder or s3://bucket/prefix for the tables
        choices: The labels, and the models, presets and prompts to compare
        job: Everything else, the same for every variant; its cap is for all of them together
    """
    job = accepted(source, output, job)
    course = opened(source, output, choices, job)
    for variant in course.comparison.variants:
        with next_variant(course, variant) as asked:
            course.runs.append(analyze_images(source, output, asked))
    return compared(course)
