"""A comparison as it goes on: its variants one after another under one cap, and what their runs come to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from prefect.runtime import flow_run

from config.job import Choices, Job
from tasks.labelling.exporting import write_disagreements
from tasks.orchestration.ending import ENDS
from tasks.orchestration.invoker import invoked_by, invoker
from tasks.planning.variants import Comparison, Variant, plan_comparison, with_cap
from tasks.preparing.threads import PreparedCache
from tasks.recording.reading_back import read_rows
from tasks.reporting.comparison_page import write_comparison
from tasks.scoring.comparison import Compared, compare_rows

Summary = dict[str, Any]


@dataclass
class Course:
    """A comparison under way: the summaries of the runs so far, and the images as they were prepared for them."""

    comparison: Comparison
    runs: list[Summary] = field(default_factory=list)
    prepared_cache: PreparedCache = field(default_factory=PreparedCache)

    @property
    def left(self) -> Decimal | None:
        """Dollars that are left of the cap, which is one for all variants together."""
        cap = self.comparison.variants[0].plan.job.max_cost
        spent = sum((Decimal(str(run["cost_usd"])) for run in self.runs), Decimal(0))
        return None if cap is None else max(cap - spent, Decimal(0))


def opened(source: str, output: str, choices: Choices, job: Job) -> Course:
    """The comparison that the invoker has planned, or else the plan of it."""
    return Course(invoker().comparison or plan_comparison(source, output, job, choices))


@contextmanager
def next_variant(course: Course, variant: Variant) -> Iterator[Job]:
    """Within, the flow runs this variant as it was planned, with what is left of the cap."""
    plan = with_cap(variant.plan, course.left)
    invoker().observer.variant(course.comparison, variant)
    with invoked_by(replace(invoker(), plan=plan, comparison=None, prepared_cache=course.prepared_cache)):
        yield plan.job


def compared(course: Course) -> Summary:
    """Score what the runs have written, and write the page, and without labels the files to label.

    `summary` is what `--json` prints.
    """
    output = course.comparison.variants[0].plan.output
    rows = [read_rows("results", output.uri, run["job"], run["run_id"]).to_pylist() for run in course.runs]
    found = compare_rows(course.comparison, rows, course.runs)
    unlabelled = write_disagreements(found) if found.choice is None else None
    page = write_comparison(found)
    return {"summary": found.summary, "exit_status": _exit_status(course, found), "page": page, "to_label": unlabelled}


def _exit_status(course: Course, found: Compared) -> int:
    """As of a run: 5 submitted, 4 paused by the cap, 3 where an image has no score, as it could not be asked about."""
    ends = {ENDS[run["status"]].exit_status for run in course.runs}
    return max(ends & {4, 5}, default=0 if found.is_whole else 3)


def comparison_name() -> str:
    """The flow run's name in the UI."""
    return f"compare {flow_run.get_parameters()['source']}"
