"""Names in Prefect's UI: of a flow run, and the keys of its artifacts."""

import re
import unicodedata
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import coolname
from coolname.loader import load_config
from prefect.runtime import deployment, flow_run

from config.form import flat
from config.job import Job, job_name


def run_name() -> str:
    """The flow run's name in the UI: what a person typed for it, else the job's."""
    if deployment.id and (typed := flow_run.get_name()) and not is_made_up(typed):
        return typed
    parameters = flow_run.get_parameters()
    job = parameters.get("job")
    values = {"name": job.name} if isinstance(job, Job) else flat(job)
    named = values.get("name") if isinstance(values, dict) else None
    return str(named or job_name(str(parameters["source"])))


def is_made_up(name: str) -> bool:
    """Whether Prefect's server thought of the name. One that its form suggested was there to be read, and stays."""
    words = name.split("-")
    return len(words) == 2 and _vocabulary().issuperset(words)


def artifact_key(job: str, what: str) -> str:
    """`receipts-costs`: Prefect takes a-z, 0-9 and dashes; names that would be alike get a digest."""
    plain = unicodedata.normalize("NFKD", job).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if slug != job:
        slug = f"{slug}-{sha256(job.encode()).hexdigest()[:6]}".strip("-")
    return f"{slug}-{what}"


@cache
def _vocabulary() -> frozenset[str]:
    """Every word that coolname, whose names Prefect's server gives, may take."""
    words: dict[str, Any] = dict(load_config(Path(coolname.__file__).parent / "data"))
    return frozenset(str(word) for one in words.values() for word in one.get("words") or ())
