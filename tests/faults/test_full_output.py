"""A real file system that is full where the tables go: what was paid is kept, the next run writes what is missing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tasks.simulator import Simulator
from tests.runs import draw, end, run_table, start

pytestmark = [pytest.mark.all, pytest.mark.usefixtures("prefect_server", "home")]
IMAGES = 60


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_the_next_run_completes_the_tables_of_one_whose_output_was_full(
    small: Path, simulator: Simulator, tmp_path: Path
) -> None:
    command = ["run", draw(tmp_path / "images", IMAGES), "--output", small / "out", "--name", "job", "--json"]
    full = end(start(*command))
    assert full.status == 1
    assert "visionflow: No space left for " in full.err and "Free some, or choose another folder." in full.err
    assert "Traceback" not in full.err

    subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
    again = end(start(*command))
    assert (again.status, again.summary["cached"], again.summary["calls"]) == (0, IMAGES, 0)
    assert simulator.ledger().requests == IMAGES
    paid = simulator.ledger().cost_usd
    for table in ("calls", "costs", "runs"):
        assert pd.read_parquet(small / "out" / table)["cost_usd"].sum() == paid, table
    assert list(run_table(small / "out")["status"]) == ["interrupted", "completed"]
