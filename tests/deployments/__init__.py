"""Tests of deployments; those of one process share a server, so each forgets what it has deployed."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

NAMES = ["analyze-images/ad-hoc", "analyze-images/nightly"]


def forget_deployments(client: SyncPrefectClient) -> None:
    """What a person has set in the UI, schedules too, would be kept when the next test serves."""
    for name in NAMES:
        with suppress(ObjectNotFound):
            client.delete_deployment(client.read_deployment_by_name(name).id)
