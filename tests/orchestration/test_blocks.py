"""Keys by the name of a Prefect Secret block: used for the run, found nowhere else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret

from config.job import Job
from flows import analyze_images
from tasks.errors import StopRun, UsageError
from tasks.orchestration.blocks import keys_from_blocks
from tasks.simulator import Simulator
from tests.runs import draw, run_table

pytestmark = pytest.mark.usefixtures("prefect_server")
KEY = "sk-ant-only-in-the-block"


def saved(name: str, value: Any) -> str:
    Secret(value=value).save(name, overwrite=True)
    return name


def test_a_run_with_the_key_of_a_block(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    job = {"key_block": saved("key-of-a-test", KEY), "name": "job"}
    summary: Any = analyze_images(str(draw(tmp_path / "images", 2)), str(tmp_path / "out"), job)
    assert (summary["ok"], simulator.ledger().requests) == (2, 2)
    assert "ANTHROPIC_API_KEY" not in os.environ, "only for the run"
    assert '"key_block": "key-of-a-test"' in run_table(tmp_path / "out")["settings"][0]
    assert KEY not in "".join(capfd.readouterr())
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_storage_keys_of_a_block_replace_all_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of the machine")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://machine.example")
    keys = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s3cret"}
    for value in (json.dumps(keys), keys):
        with keys_from_blocks(Job(storage_block=saved("storage-of-a-test", value))):
            assert {name: os.environ[name] for name in keys} == keys
            assert "AWS_SESSION_TOKEN" not in os.environ and "AWS_ENDPOINT_URL" not in os.environ
        assert os.environ["AWS_SESSION_TOKEN"] == "of the machine"


def test_what_a_block_must_be_is_said_without_its_value(simulator: Simulator) -> None:
    assert simulator
    wrong = [
        (StopRun, "There is no Secret block nowhere", Job(key_block="nowhere")),
        (StopRun, "key as text", Job(key_block=saved("odd-of-a-test", {"key": KEY}))),
        (StopRun, "must hold JSON", Job(storage_block=saved("key-of-a-test", KEY))),
        (
            StopRun,
            "must hold JSON",
            Job(storage_block=saved("half-of-a-test", {"AWS_ENDPOINT_URL": "http://e.example"})),
        ),
        (UsageError, "needs no key", Job(key_block="key-of-a-test", endpoint="simulator")),
    ]
    for error, said, job in wrong:
        with pytest.raises(error, match=said) as raised, keys_from_blocks(job):
            pass
        assert KEY not in str(raised.value) and "e.example" not in str(raised.value)
    for value in ("Key Of", "a/b", KEY.upper()):
        with pytest.raises(ValueError, match="key_block"):
            Job(key_block=value)
