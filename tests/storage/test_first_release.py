"""What the first release (353d067) kept is read, and what it was killed in is gone on with.

first_release.zip is what it left of two runs over its simulator: one of 8 images that ended, and one of the same and 6
more, with another output, that was killed with a call in flight.
"""

import zipfile
from pathlib import Path

import pytest

from tasks.asking.journal import refuge_folder
from tasks.simulator import Simulator
from tests.runs import end, rows, start

KEPT = Path(__file__).with_name("first_release.zip")
IMAGES, ANSWERS, OUT_THEN = 14, 13, "/tmp/first/killed"


@pytest.mark.usefixtures("prefect_server")
def test_a_killed_run_of_the_first_release_goes_on_and_pays_nothing_again(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    with zipfile.ZipFile(KEPT) as kept:
        kept.extractall(home)
    monkeypatch.setenv("VISIONFLOW_HOME", str(home))
    then = home / "journal" / refuge_folder(OUT_THEN, "job").name
    then.rename(then.with_name(refuge_folder(str(out), "job").name))  # the output has moved
    labels = ["--preset", "classification", "--label", "a", "--label", "b"]
    ended = end(start("run", home / "images", "--output", out, "--name", "job", *labels, "--json"))
    assert "damaged" not in ended.err
    assert (ended.status, ended.summary["ok"], ended.summary["cached"]) == (0, IMAGES, ANSWERS)
    assert simulator.ledger().billed == IMAGES - ANSWERS
    calls = rows(ended.summary, "calls")
    assert sorted(calls["paid"]) == ["maybe", "yes"], "the call that was in flight, and the one for it now"
    assert not (home / "damaged").exists()
