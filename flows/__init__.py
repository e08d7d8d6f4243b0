"""The flows, and what Python code takes from them: `from flows import analyze_images`.

Nothing heavy is imported before it is called.
"""

import sys
from collections.abc import Awaitable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from config.job import Job


def analyze_images(
    source: str, output: str, job: "Job | Mapping[str, Any] | None" = None
) -> dict[str, Any] | Awaitable[dict[str, Any]]:
    """Ask about every image under `source` and write the tables under `output`; the run's summary, as of `run --json`.

    Where an event loop runs already, as in a notebook or an async flow, the summary has to be awaited. `job` is a Job,
    or what a job file holds. UsageError or StopRun says what is wrong; an interrupted run raises CancelledRun.
    """
    check_names()
    from flows.calling import call

    return call(source, output, job)


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
