"""The container files, as far as a machine without a container engine can look at them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.schema_tools import is_valid_schema

from flows.cli.server_process import APPLICATION, SERVER_ENVIRONMENT
from tasks.orchestration.fleet.work_pool import ENVIRONMENT
from tests.runs import ROOT

FOLDER = ROOT / "deployments"


def settings(name: str) -> dict[str, str]:
    """The variables of an env file."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def services() -> dict[str, Any]:
    composed = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = composed["services"]
    for service in found.values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in composed["volumes"]
    return found


def test_all_that_the_files_name_is_there() -> None:
    for name, service in services().items():
        for file in service.get("env_file", []):
            assert (FOLDER / file).exists() or (FOLDER / f"{file}.example").exists(), (name, file)
        assert set(service.get("depends_on", [])) <= set(services()), name
        if "build" in service:
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]]
    assert copied and all((ROOT / path).exists() for path in copied)
    assert (FOLDER / Path(services()["bucket"]["entrypoint"][1]).name).exists()


def test_no_secret_stands_in_the_files_and_the_database_s_stays_with_the_server() -> None:
    for name in ("Dockerfile", "compose.yaml", "server.env"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert not re.search(r"(KEY|PASSWORD|SECRET)\w*[=:]\s*\S", text), name
    assert not any("POSTGRES" in name or "DATABASE" in name for name in settings("visionflow.env.example"))
    assert services()["worker"]["env_file"] == ["visionflow.env"]


@pytest.mark.parametrize("name", ["kubernetes", "ecs"])
def test_a_job_template_asks_for_all_that_it_fills_in(name: str) -> None:
    """The image's entry point is visionflow's, so a template says what runs Prefect's command; no key stands in it."""
    template = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    job, variables = json.dumps(template["job_configuration"]), template["variables"]
    is_valid_schema(variables)
    filled = set(re.findall(r"{{ *(\w+) *}}", job))
    assert filled == set(variables["properties"])
    assert set(variables.get("required", [])) <= filled
    assert '["/usr/bin/env"]' in job
    assert variables["properties"]["env"]["default"] == ENVIRONMENT
    assert "sk-ant" not in job


def test_the_server_s_settings_are_those_of_the_one_that_visionflow_starts() -> None:
    told = settings("server.env")
    assert SERVER_ENVIRONMENT.items() <= told.items()
    server = services()["server"]
    assert server["entrypoint"][-1] == APPLICATION
    (port,) = server["ports"]
    assert port.startswith("127.0.0.1:"), "whoever reaches the API can start runs"
    assert services()["worker"]["environment"]["PREFECT_API_URL"] == "http://server:4200/api"
    assert "http://server:4200" in told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
