"""Who may say what: a run that a form, a schedule or an automation starts takes names, never addresses or files."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from config.job import Job
from flows.analyze_images import analyze_images
from tasks.planning.given import refusal
from tasks.simulator import Simulator
from tests.deployments import NAMES
from tests.deployments.test_deployments import ended, until_served
from tests.own_tables import OwnTables, own_tables
from tests.runs import draw, run_table, start

__all__ = ["own_tables"]  # a fixture

FORMS: list[tuple[dict[str, Any], str]] = [
    ({"endpoint": "http://127.0.0.1:1"}, "endpoint's address"),
    ({"endpoint": "127.0.0.1:1"}, "endpoint's address"),
    ({"endpoint": "custom"}, "endpoint's address"),
    ({"endpoint": "https://api.anthropic.com.evil.example"}, "endpoint's address"),
    ({"prompt": "@/etc/passwd"}, "prompt begins with @"),
    ({"system": "@~/.ssh/id_rsa"}, "system begins with @"),
    ({"fallback_prompt": ["And now?", "@/etc/passwd"]}, "fallback_prompt begins with @"),
    ({"schema": "/etc/passwd.json"}, "schema's file"),
    ({"schema": "os:environ"}, "schema's file"),
    ({"schema": "../receipt"}, "schema's file"),
]


@pytest.mark.parametrize(("form", "said"), FORMS, ids=[str(form) for form, _ in FORMS])
def test_a_form_names_no_address_no_file_and_no_module(form: dict[str, Any], said: str) -> None:
    why = refusal(Job(**form), {})
    assert why is not None and why.startswith("Refused: ") and said in why
    assert "\n" not in why and why.count(". ") == 0
    assert not any(str(value) in why for value in form.values()), "what a stranger wrote is not repeated"


def test_a_form_may_name_what_the_operator_has_put_into_the_tables(own_tables: OwnTables) -> None:
    own_tables(
        endpoints='[gateway]\nbase_url = "https://gateway.example.com"\nauth = "both"\nkey_env = ""\n'
        'prices = "anthropic"\ncny_per_usd = "7"\nstructured_outputs = true\ncaching = true\ncount_tokens = true\n'
        "has_models_api = true\nmax_base64_bytes = 1000000\n"
    )
    for form in ({}, {"endpoint": "gateway"}, {"endpoint": ""}, {"schema": "receipt", "prompt": "Mail to a@b.c?"}):
        assert refusal(Job(**form), {}) is None, form


def test_the_environment_of_a_run_is_the_operator_s() -> None:
    assert refusal(Job(), {"env": {}}) is None
    assert "environment" in str(refusal(Job(), {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}}))


@pytest.mark.usefixtures("prefect_server")
def test_a_python_call_is_the_operator_s(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    (tmp_path / "ask.txt").write_text("@ What is it?\n", encoding="utf-8")
    job = Job(endpoint=simulator.url, prompt=f"@{tmp_path}/ask.txt")
    summary = analyze_images(str(draw(tmp_path / "images", 1)), str(tmp_path / "out"), job)
    assert (summary["ok"], simulator.ledger().requests) == (1, 1)
    assert '"prompt": "@ What is it?"' in run_table(tmp_path / "out")["settings"][0]


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


class Listener:
    """Whatever connects to it is a request that must not have been made."""

    def __init__(self) -> None:
        self.heard = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self._socket.accept()[0].close()
            self.heard += 1


@pytest.mark.all
def test_a_served_run_refuses_in_its_last_state_and_nobody_is_asked(
    client: SyncPrefectClient, simulator: Simulator, tmp_path: Path
) -> None:
    """Through the real thing: the form's own run, one whose parameters are an automation's, and one that is allowed."""
    images, listener = draw(tmp_path / "images", 1), Listener()
    secret = tmp_path / "secret.txt"
    secret.write_text("the key of the safe is 4711")
    process = start("serve", PREFECT_RUNNER_POLL_FREQUENCY=1)
    try:
        until_served(client)
        deployment = client.read_deployment_by_name(NAMES[0])

        def submit(**job: Any) -> FlowRun:
            parameters = {"source": str(images), "output": str(tmp_path / "out"), "job": job}
            return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)

        with pytest.raises(PrefectHTTPStatusError, match="'limit' was unexpected"):
            client.create_flow_run_from_deployment(
                deployment.id, parameters={"source": "in", "output": "o", "limit": 5}
            )
        refused = [submit(endpoint=listener.url), submit(prompt=f"@{secret}"), submit(schema="http.server:test")]
        allowed = submit(preset="classification", labels=["cat", "dog"])
        states = [ended(client, flow_run).state for flow_run in refused]
        done = ended(client, allowed)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    for state in states:
        assert state is not None and state.is_failed()
        assert str(state.message).startswith("Refused: a form must not") or "begins with @" in str(state.message)
    assert done.state_name == "Completed"
    assert listener.heard == 0
    assert simulator.ledger().requests == 1
    logs = [one.message for one in client.read_logs(LogFilter(flow_run_id={"any_": [one.id for one in refused]}))]
    assert [line for line in logs if "Traceback" in line or "4711" in line] == []
    assert sum("Refused: " in line for line in logs) == len(refused)
    assert len(run_table(tmp_path / "out")) == 1
