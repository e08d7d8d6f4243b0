"""Registering what is served: what is missing is made, and what a person has set in the UI since stays as it is."""

import json
from hashlib import sha256
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Schedule
from prefect.utilities.callables import ParameterSchema

from flows.analyze_images import analyze_images
from tasks.errors import UsageError

MARK = "prefect.yaml "
# Prefect updates the fields that were set, so these are all that a restart touches.
OURS = {"name", "flow_name", "entrypoint", "description", "version"}


class OnlyThese(ParameterSchema):
    """A flow's parameters and no others."""

    additionalProperties: bool = False  # noqa: N815  # as JSON Schema calls it


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
        return _closed(deployment)
    schedules = entry.get("schedules", [])
    limit = entry.get("concurrency_limit")
    deployment = flow.to_deployment(
        **common,
        parameters=entry.get("parameters"),
        tags=entry.get("tags"),
        schedules=[Schedule(**{"slug": f"{name}-{at}", **one}) for at, one in enumerate(schedules)],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
    )
    return _closed(deployment)


def _closed(deployment: RunnerDeployment) -> RunnerDeployment:
    """One that takes no parameter but its flow's: Prefect's server refuses others, on which the run would crash."""
    open_to_all = deployment._parameter_openapi_schema  # noqa: SLF001  # Prefect has no other name for it
    closed = OnlyThese(**open_to_all.model_dump(), additionalProperties=False)
    deployment._parameter_openapi_schema = closed  # noqa: SLF001
    return deployment


def register_automation(entry: dict[str, Any], kind: str, name: str) -> str:
    """Create an automation whose messages go to a notification block, or bring that of its name up to date.

    What was done, in a word. UsageError where there is no such block.
    """
    with get_client(sync_client=True) as client:
        try:
            block = client.read_block_document_by_name(name, kind)
        except ObjectNotFound:
            raise UsageError(
                f"Prefect's server has no block {kind}/{name}. Make it in the UI under Blocks, or take another."
            ) from None
        actions = [{**action, "block_document_id": block.id} for action in entry["actions"]]
        automation = AutomationCore.model_validate({**entry, "actions": actions})
        existing = client.read_automations_by_name(entry["name"])
        for one in existing:
            client.update_automation(one.id, automation.model_copy(update={"enabled": one.enabled}))
        if not existing:
            client.create_automation(automation)
    return "Updated" if existing else "Created"


def _existing(name: str) -> DeploymentResponse | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(name)
        except ObjectNotFound:
            return None
