"""Local files whose names are no UTF-8: asked about, paid for once, and written down wherever a name may stand."""

import os
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import OutputError, SourceError, UsageError
from tasks.listing import list_images
from tasks.simulator import Simulator
from tasks.storage.output import open_output
from tests.end_to_end.test_flow_in_prefect import task_runs
from tests.flow_runs import flow_runs_of
from tests.runs import draw, end, picture, rows, start

LATIN = os.fsdecode("café.jpg".encode("latin-1"))
WRITTEN = r"caf\udce9.jpg"
DAMAGED = os.fsdecode("cassé.jpg".encode("latin-1"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = draw(tmp_path / "images", 1)
    (folder / LATIN).write_bytes(picture(50))
    (folder / DAMAGED).write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.mark.usefixtures("prefect_server")
def test_a_run_over_names_that_are_no_utf8(images: Path, simulator: Simulator, tmp_path: Path) -> None:
    command = ["run", images, "--output", tmp_path / "out", "--name", "odd", "--json"]
    first = end(start(*command))
    assert first.status == 3, first.err
    assert "Traceback" not in first.err
    assert r"cass\udce9.jpg: " in first.out + first.err
    table = rows(first.summary).set_index("name").sort_index()
    assert table["status"].to_dict() == {WRITTEN: "ok", r"cass\udce9.jpg": "unreadable", "p000.jpg": "ok"}
    assert table.loc[WRITTEN, "image"] == f"{images}/{WRITTEN}"
    calls = rows(first.summary, "calls")
    assert set(calls["image"]) == {f"{images}/{WRITTEN}", f"{images}/p000.jpg"}
    assert calls["cost_usd"].sum() == simulator.ledger().cost_usd
    assert r"cass\udce9.jpg" in Path(first.summary["report"]).read_text()
    names = {one.name for one in task_runs(flow_runs_of(tmp_path / "out")[0], 7)}
    assert {f"prepare {WRITTEN}", f"ask {WRITTEN}"} <= names

    second = end(start(*command))
    assert (second.status, second.summary["calls"], second.summary["cached"]) == (3, 0, 2)
    assert simulator.ledger().requests == 2
    assert len(pd.read_parquet(tmp_path / "out" / "results")) == 6


def test_a_source_of_such_a_name_is_refused_with_a_way_around(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = images / os.fsdecode(b"\xe9t\xe9")
    draw(odd, 1)
    with pytest.raises(SourceError, match=r"t\\udce9 is not UTF-8. Change into the folder and name the source `\.`"):
        list_images(str(odd))
    monkeypatch.chdir(odd)
    assert [image.name for image in list_images(".").images] == ["p000.jpg"]


@pytest.mark.parametrize("name", [os.fsdecode(b"\xe9t\xe9"), "a\0b"])
def test_an_output_of_such_a_name_is_refused(tmp_path: Path, name: str) -> None:
    """It would stand in tables, in digests and in what Prefect is told: each of them fails on it."""
    with pytest.raises(UsageError, match="is not UTF-8, or holds a NUL"):
        open_output(str(tmp_path / name))


def test_nor_is_one_below_such_a_folder_named_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / os.fsdecode(b"\xe9t\xe9")
    odd.mkdir()
    monkeypatch.chdir(odd)
    with pytest.raises(UsageError, match=r"t\\udce9/out is not UTF-8"):
        open_output("out")
    odd.rmdir()
    with pytest.raises(OutputError, match="Cannot write out: No such file or directory"):
        open_output("out")
