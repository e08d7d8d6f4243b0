"""Events that a run sends to Prefect's server, and the automations that send a person a message for them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client

from config.job import Job
from config.settings import alert_per_day, pause_minutes
from flows.analyze_images import analyze_images
from flows.cli.serving import automation_entries, create_automations
from tasks.errors import RowsFailed, SourceError, UsageError
from tasks.simulator import Simulator
from tasks.storage.conditional import write_mark
from tasks.storage.output import open_output
from tests.http_servers import Handler, serving
from tests.runs import draw, until
from tests.s3 import S3Server

JOB = Job(name="told", preset="classification", labels=("cat", "dog"))


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    assert prefect_server
    with get_client(sync_client=True) as client:
        yield client


def events(client: SyncPrefectClient, output: Path, least: int) -> list[dict[str, Any]]:
    """The events of runs with this output, oldest first, once there are so many."""

    def found() -> list[dict[str, Any]]:
        asked = {
            "filter": {"event": {"prefix": ["visionflow."]}, "order": "DESC"},
            "limit": 50,
        }  # other tests' are older
        answer = client.request("POST", "/events/filter", json=asked)
        ours = [one for one in reversed(answer.json()["events"]) if str(output) in json.dumps(one["payload"])]
        return ours if len(ours) >= least else []

    ours: list[dict[str, Any]] = until(found)
    return ours


def test_a_run_says_when_it_starts_and_how_it_ends(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path
) -> None:
    images, output = draw(tmp_path / "images", 4), tmp_path / "out"
    summary = analyze_images(str(images), str(output), JOB)
    capped = JOB.model_copy(update={"name": "capped", "max_cost": Decimal(0), "refresh": True})
    assert analyze_images(str(images), str(output), capped)["status"] == "paused"
    (images / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(RowsFailed):
        analyze_images(str(images), str(output), JOB)
    with pytest.raises(UsageError):
        analyze_images(str(images), str(output), JOB.model_copy(update={"preset": f"none-for-{output}"}))

    told = events(client, output, 7)
    assert [one["event"].removeprefix("visionflow.run.") for one in told] == [
        *("started", "finished"),
        *("started", "paused"),
        *("started", "failed"),
        "failed",
    ]
    assert told[0]["payload"]["to_ask"] == 4 and told[0]["payload"]["simulated"]
    assert told[1]["payload"] == summary
    assert told[1]["resource"]["prefect.resource.id"] == f"visionflow.run.{summary['run_id']}"
    assert [one["payload"].get("failed") for one in told if one["event"].endswith(("paused", "failed"))] == [4, 1, None]
    assert "none-for" in told[-1]["payload"]["message"]
    assert all(any(one["prefect.resource.role"] == "flow-run" for one in event["related"]) for event in told)


@pytest.mark.all
def test_the_spend_of_the_day_is_told_once_for_all_jobs_of_an_output(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, output = draw(tmp_path / "images", 4), tmp_path / "out"
    first = analyze_images(str(images), str(output), JOB)
    monkeypatch.setenv("VISIONFLOW_ALERT_PER_DAY", str(first["cost_usd"] * 1.5))
    for name in ("second", "third"):
        job = JOB.model_copy(update={"name": name, "refresh": True})
        analyze_images(str(images), str(output), job)
    told = [one for one in events(client, output, 7) if one["event"] == "visionflow.spend.passed"]
    assert [one["payload"]["limit_usd"] for one in told] == [pytest.approx(first["cost_usd"] * 1.5)]
    assert told[0]["payload"]["spent_usd"] == pytest.approx(first["cost_usd"] * 2)


def test_settings_that_are_no_amount_stop_a_run_before_it_pays(
    prefect_server: str, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alert_per_day() is None and pause_minutes() == 30
    for nonsense in ("lots", "-1", "nan", "inf"):
        monkeypatch.setenv("VISIONFLOW_PAUSE_MINUTES", nonsense)
        with pytest.raises(ValueError, match=r"VISIONFLOW_PAUSE_MINUTES is .*: it must be a number, 0 or more"):
            pause_minutes()
    monkeypatch.delenv("VISIONFLOW_PAUSE_MINUTES")
    monkeypatch.setenv("VISIONFLOW_ALERT_PER_DAY", "$20")
    with pytest.raises(UsageError, match="VISIONFLOW_ALERT_PER_DAY"):
        analyze_images(str(draw(tmp_path / "images", 2)), str(tmp_path / "out"), JOB)
    assert simulator.ledger().requests == 0


def test_of_several_that_write_a_new_file_one_is_told_so(tmp_path: Path, s3_server: S3Server) -> None:
    for place in (str(tmp_path / "out"), f"s3://{s3_server.bucket}/new"):
        output = open_output(place)
        with ThreadPoolExecutor(8) as pool:
            told = pool.map(partial(write_mark, output, "a/day"), [b"%d" % number for number in range(8)])
            assert sorted(told) == [False] * 7 + [True], place


@pytest.mark.all
def test_automations_tell_a_person(
    client: SyncPrefectClient,
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Created twice by our command, and fired by real events: a failed run, failed rows, a cap, the day's spend."""
    with pytest.raises(UsageError, match="no block custom-webhook/nobody"):
        create_automations("custom-webhook/nobody")
    with pytest.raises(UsageError, match="is no block"):
        create_automations("nobody")
    received: list[dict[str, str]] = []

    class Receiver(Handler):
        def do_POST(self) -> None:
            received.append(json.loads(self.body()))
            self.answer(200)

    with serving(Receiver) as receiver:
        block = CustomWebhookNotificationBlock(
            name="team",
            url=f"{receiver}/",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        block.save("team", overwrite=True)
        try:
            for done in ("Created", "Updated"):
                create_automations("custom-webhook/team")
                assert capsys.readouterr().out.count(done) == len(automation_entries()) == 3
            images, output = draw(tmp_path / "images", 3), str(tmp_path / "out")
            monkeypatch.setenv("VISIONFLOW_ALERT_PER_DAY", "0.0000001")
            with pytest.raises(SourceError):
                analyze_images(str(tmp_path / "nowhere"), output, JOB)
            analyze_images(str(images), output, Job(name="capped", max_cost=Decimal(0)))
            (images / "bad.jpg").write_bytes(b"no image")
            with pytest.raises(RowsFailed):
                analyze_images(str(images), output, JOB)
            until(lambda: len(received) >= 4)
        finally:
            for entry in automation_entries():
                for one in client.read_automations_by_name(entry["name"]):
                    client.delete_automation(one.id)
    said = {one["subject"]: one["body"] for one in received}
    assert "nowhere" in said["visionflow: told is Failed"]
    assert "1 of 4 rows failed" in said["visionflow: told is RowsFailed"]
    assert "0 of 3 rows have a good answer" in said["visionflow: capped is paused at $0.0"]
    (spend,) = (body for subject, body in said.items() if "spent on 20" in subject)
    assert output in spend
    assert len(received) == 4
