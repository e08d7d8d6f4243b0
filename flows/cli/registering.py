"""Registering what is served: what is missing is made, and what a person has set in the UI since stays as it is."""

import json
from hashlib import sha256
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule

from flows.analyze_images import analyze_images

MARK = "prefect.yaml "
# Prefect updates the fields that were set, so these are all that a restart touches.
OURS = {"name", "flow_name", "entrypoint", "description", "version"}


def deployment_of(entry: dict[str, Any]) -> RunnerDeployment:
    """An entry of prefect.yaml as Prefect serves it.

    Its schedules and parameters count when it is new, or when the entry is another than the one registered last.
    """
    flow: Any = analyze_images
    name, version = (
        entry["name"],
        MARK + sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()[:12],
    )
    common = {"name": name, "description": entry.get("description"), "version": version}
    existing = _existing(f"{flow.name}/{name}")
    registered = (existing.version or "") if existing else ""
    deployment: RunnerDeployment
    if existing and (registered == version or not registered.startswith(MARK)):
        deployment = flow.to_deployment(**common)
        deployment.model_fields_set.intersection_update(OURS)
        return deployment
    schedules = entry.get("schedules", [])
    limit = entry.get("concurrency_limit")
    deployment = flow.to_deployment(
        **common,
        parameters=entry.get("parameters"),
        schedules=[Schedule(**{"slug": f"{name}-{at}", **one}) for at, one in enumerate(schedules)],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
    )
    return deployment


def _existing(name: str) -> DeploymentResponse | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(name)
        except ObjectNotFound:
            return None
