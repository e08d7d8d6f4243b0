"""The flow end to end."""
from pathlib import Path
import pytest
from config.job import Job
from flows.analyze_images import analyze_images
from tasks.simulator import Simulator
from tests.runs import draw, rows, run_table

pytestmark = pytest.mark.usefixtures("prefect_server")

def test_smoke(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 5)
    summary = analyze_images(str(images), str(tmp_path / "out"), Job())
    assert summary["ok"] == 5
    print(rows(summary).T)
