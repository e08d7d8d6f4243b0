"""Caps hold over several runs: a retried flow run has one cap, and runs at once share the day's."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from config.job import Job
from flows.analyze_images import analyze_images
from tasks.simulator import Simulator
from tests.runs import draw, end, start


@pytest.mark.usefixtures("prefect_server")
def test_a_retry_in_prefect_spends_no_second_cap(simulator: Simulator, tmp_path: Path) -> None:
    draw(tmp_path / "images", 60)
    job = Job(name="retried", prompt="One word.", max_tokens=50, max_cost=Decimal("0.0025"), concurrency=2)
    given = {"source": str(tmp_path / "images"), "output": str(tmp_path / "out"), "job": job.model_dump(by_alias=True)}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(analyze_images, parameters=given)
        for attempt in range(3):
            again = client.read_flow_run(run.id)
            summary: Any = run_flow(analyze_images, flow_run=again, parameters={**given, "job": job})
            assert summary["status"] == "paused", attempt
            client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
    spent = simulator.ledger().cost_usd
    assert 0 < spent <= Decimal("0.0025")
    runs = pd.read_parquet(tmp_path / "out" / "runs")
    assert len(runs) == 3 and runs["cost_usd"].sum() == spent
    assert len({name.rpartition("-")[2] for name in runs["run_id"]}) == 1


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.all
def test_runs_at_once_share_the_cap_of_the_day(simulator: Simulator, tmp_path: Path) -> None:
    draw(tmp_path / "images", 60)
    (tmp_path / "job.yaml").write_text("name: daily\nmax_cost_per_day: 0.0025\nprompt: One word.\nmax_tokens: 50\n")
    command = ["run", tmp_path / "images", "--output", tmp_path / "out", "--job", tmp_path / "job.yaml", "--json"]
    ended = [end(process, 200) for process in [start(*command, "--concurrency", 2) for _ in range(3)]]
    assert {one.status for one in ended} == {4}, [one.err[-500:] for one in ended]
    assert 0 < simulator.ledger().cost_usd <= Decimal("0.0025")
    assert sum(one.summary["calls"] for one in ended) == simulator.ledger().requests


@pytest.mark.usefixtures("prefect_server")
def test_what_may_have_been_paid_counts_in_the_cap_of_the_day(simulator: Simulator, tmp_path: Path) -> None:
    """Every answer of the first run is lost on its way, and what it cost is known to the endpoint alone."""
    images, output = draw(tmp_path / "images", 20), tmp_path / "out"
    job = Job(name="daily", prompt="One word.", max_tokens=50, max_cost_per_day=Decimal("0.005"), attempts=1)
    simulator.set_faults("drop_paid=1")
    lost: Any = analyze_images(str(images), str(output), job.model_copy(update={"concurrency": 2}))
    assert lost["status"] == "paused" and lost["cost_usd"] == 0 < lost["calls_maybe_paid"]
    calls = pd.read_parquet(output / "calls")
    assert Decimal("0.003") < calls["at_most_usd"].sum() <= Decimal("0.005")

    simulator.set_faults("")
    later: Any = analyze_images(str(images), str(output), job)
    assert (later["status"], later["calls"]) == ("paused", 0)
    assert simulator.ledger().cost_usd <= Decimal("0.005")
