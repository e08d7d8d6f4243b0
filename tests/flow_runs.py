"""Flow runs as Prefect's server has them, which other tests have used before."""

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort


def flow_runs_of(output: object, client: SyncPrefectClient | None = None) -> list[FlowRun]:
    """Those that wrote there, the newest first."""
    if client is None:
        with get_client(sync_client=True) as own:
            return flow_runs_of(output, own)
    recent = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=200)
    return [one for one in recent if one.parameters.get("output") == str(output)]
