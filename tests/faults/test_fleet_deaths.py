"""A fleet whose worker is killed with all that it started: two real workers in folders of their own."""

import argparse
from pathlib import Path

import pytest

from tests.benchmark.fleet import run, scene

IMAGES, IN_FLIGHT = 400, 10


@pytest.mark.all
def test_what_a_killed_worker_had_is_finished_by_another(tmp_path: Path) -> None:
    """Every image has one row, nothing received is paid for again, and each lost answer is a call that says `maybe`."""
    options = argparse.Namespace(images=IMAGES, concurrency=IN_FLIGHT, shards=2, kill=True, more=["--no-thumbnails"])
    with scene(tmp_path, IMAGES, 1.0, s3=False, workers=2) as made:
        account = run(made, options)
    assert account["processes killed"] > 1, "it was at work"
    assert (account["status"], account["rows"], account["images with a row"]) == ("completed", IMAGES, IMAGES)
    assert account["asked twice"] == account["answers lost"] <= account["maybe"] <= IN_FLIGHT
    assert account["calls"] == account["ledger"]
    assert float(account["peak in flight"]) <= IN_FLIGHT
