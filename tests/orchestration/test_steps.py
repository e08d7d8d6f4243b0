"""The tasks: what a chunk keeps when some of its images have no answer, and what ends a run before it is paid for."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from config.job import Job
from flows import analyze_images
from tasks.errors import StopRun
from tasks.preparing import pool
from tasks.simulator import Simulator
from tests.runs import draw, picture, rows, run_table

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(source: Path, output: Path, **options: Any) -> dict[str, Any]:
    summary: dict[str, Any] = analyze_images(str(source), str(output), Job(name="job", max_tokens=100, **options))
    return summary


@pytest.mark.parametrize("among", [3, 210], ids=["one image a chunk", "many images a chunk"])
def test_a_file_that_could_not_be_read_for_a_moment_is_tried_again(
    among: int, simulator: Simulator, home: Path, tmp_path: Path
) -> None:
    """Moved away and back it has the size and the time it had."""
    images = draw(tmp_path / "images", among)
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join(f"images/p{number:03}.jpg" for number in range(among)))
    moved = images / f"p{among - 1:03}.jpg"
    stays = moved.rename(tmp_path / "away")
    images.joinpath(moved.name).symlink_to(stays.name)  # to nothing
    first = run(manifest, tmp_path / "out")
    assert (first["ok"], first["statuses"]["unreadable"]) == (among - 1, 1)
    assert rows(first).set_index("name").loc[f"images/{moved.name}", "error_code"] == "missing"

    again = run(manifest, tmp_path / "out")
    assert (again["ok"], again["calls"]) == (among - 1, 0), "still away: it has its row, and nothing is paid"
    moved.unlink()
    stays.rename(moved)
    healed = run(manifest, tmp_path / "out")
    assert (healed["ok"], healed["calls"], healed["cached"]) == (among, 1, among - 1)
    assert run(manifest, tmp_path / "out")["calls"] == 0
    assert simulator.ledger().requests == among


def test_what_is_finished_of_a_chunk_is_not_prepared_again(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw(tmp_path / "images", 210)
    bad = sorted(images.iterdir())[100]
    bad.unlink()
    bad.mkdir()
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join(f"images/{path.name}" for path in sorted(images.iterdir())))
    assert run(manifest, tmp_path / "out")["ok"] == 209
    prepared: list[object] = []
    monkeypatch.setattr("tasks.preparing.threads.prepare_image", lambda data, rules: prepared.append(data))
    again = run(manifest, tmp_path / "out", no_thumbnails=True)
    assert (again["ok"], again["cached"], again["statuses"]) == (209, 209, {"ok": 209, "unreadable": 1})
    assert prepared == []


def answers(summary: dict[str, Any]) -> dict[str, str]:
    table = rows(summary)
    return dict(zip(table["name"], table["request_id"], strict=True))


def test_after_a_refresh_the_new_answers_are_served(simulator: Simulator, tmp_path: Path) -> None:
    """Also for images that lay in chunks of another size before, and where the refresh was not finished."""
    images = draw(tmp_path / "images", 210)
    old = run(images, tmp_path / "out")
    draw(images, 30, start=210)
    old = {**answers(old), **answers(run(images, tmp_path / "out"))}
    new = answers(run(images, tmp_path / "out", refresh=True))
    assert not set(old.values()) & set(new.values())
    assert answers(run(images, tmp_path / "out")) == new

    price = rows(run(images, tmp_path / "out", refresh=True, limit=1), "calls")["cost_usd"].sum()
    part = run(images, tmp_path / "out", refresh=True, concurrency=1, max_cost=price * 60)
    assert part["status"] == "paused" and part["statuses"]["ok"] > 20
    anew = {name: request for name, request in answers(part).items() if isinstance(request, str)}
    served = answers(run(images, tmp_path / "out"))
    assert {name: served[name] for name in anew} == anew


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation in which the decoding process ends before it has begun."""
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        broken.setattr(pool, "_pool", pool.Pool(1))
        yield


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("others", [0, 210], ids=["one image a chunk", "many images a chunk"])
def test_a_decoder_that_does_not_start_stops_the_run(others: int, simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", others) if others else tmp_path / "images"
    images.mkdir(exist_ok=True)
    Image.new("RGB", (60, 40)).save(images / "p100a.bmp")  # the API takes no BMP
    (images / "p100b.jpg").write_bytes(picture(999))
    with pytest.raises(StopRun, match="the decoder does not start"):
        run(images, tmp_path / "out")
    table = run_table(tmp_path / "out")
    assert table["status"][0] == "stopped" and "the decoder does not start" in table["message"][0]
    assert table["unavailable"][0] == 0 < table["unasked"][0]
    assert table["rows"][0] == others + 2
