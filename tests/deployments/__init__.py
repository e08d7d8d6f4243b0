"""Tests of deployments; those of one process share a server, so each forgets what it has deployed."""

from contextlib import suppress

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from flows.cli.server_process import ServerProcess

NAMES = ["analyze-images/ad-hoc", "analyze-images/nightly"]


def forget_deployments(client: SyncPrefectClient) -> None:
    """What a person has set in the UI, schedules too, would be kept when the next test serves."""
    for name in NAMES:
        with suppress(ObjectNotFound):
            client.delete_deployment(client.read_deployment_by_name(name).id)


def stop_our_server() -> None:
    """End the Prefect server that a run or `visionflow serve` has started, if there is one."""
    if noted := ServerProcess.noted():
        noted.stop()
        noted.wait_for_end()
