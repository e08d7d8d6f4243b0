"""The flows, and what Python code takes from them: `from flows import analyze_images`.

Nothing heavy is imported before it is called.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import pyarrow as pa

    from config.job import Job

Place = str | os.PathLike[str]


def analyze_images(source: Place, output: Place, job: "Job | Mapping[str, Any] | None" = None) -> Any:
    """Ask about every image under `source` and write the tables under `output`; the run's summary, as of `run --json`.

    It is a dict; where an event loop runs already, as in a notebook or an async flow, an awaitable of one, which no
    type can tell. `job` is a Job, or what a job file holds. UsageError or StopRun says what is wrong; an interrupted
    run raises CancelledRun.
    """
    check_names()
    from flows.calling import call

    return call(as_text(source), as_text(output), job)


def read_results(
    output: Place, job: str | None = None, run: str | None = None, *, latest: bool = False, as_arrow: bool = False
) -> "pd.DataFrame | pa.Table":
    """Rows of `results` of all runs, of one job or of one run, with the column `job`; a data frame of Arrow types.

    With `latest` only the good answer of each image and page from the newest run that has one; with `as_arrow` an Arrow
    table. Raises UsageError if there is no such run, or OutputError.
    """
    check_names()
    from tasks.recording.reading_back import newest_answers, read_rows

    rows = read_rows("results", as_text(output), job, run)
    return _shown(newest_answers(rows) if latest else rows, as_arrow)


def read_calls(
    output: Place, job: str | None = None, run: str | None = None, *, as_arrow: bool = False
) -> "pd.DataFrame | pa.Table":
    """Rows of `calls`, every API call and what it cost; else as `read_results`."""
    check_names()
    from tasks.recording.reading_back import read_rows

    return _shown(read_rows("calls", as_text(output), job, run), as_arrow)


def as_text(place: Place) -> str:
    """A folder's path as the text that URIs are too."""
    return os.fspath(place) if isinstance(place, os.PathLike) else place


def _shown(rows: "pa.Table", as_arrow: bool) -> "pd.DataFrame | pa.Table":
    if as_arrow:
        return rows
    import pandas as pd

    return rows.to_pandas(types_mapper=pd.ArrowDtype)


def check_names() -> None:
    """Raise ImportError where a folder or module of the user's has the name of a package of ours and hides it."""
    here = Path(__file__).resolve().parent.parent
    for name in ("config", "tasks"):
        found = find_spec(name)
        places = (
            [found.origin] if found and found.origin else list(found.submodule_search_locations or ()) if found else []
        )
        if not any(Path(place).resolve().is_relative_to(here / name) for place in places):
            what = f"{places[0]} hides" if places else "Something hides"
            raise ImportError(f"{what} visionflow's own package `{name}`. Rename it, or start from another folder.")


class _Flows(ModuleType):
    """This package. `analyze_images` is its function, also after the module of that name has been imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "analyze_images" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Flows
