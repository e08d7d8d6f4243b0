"""A whole run against an endpoint that lies about every image: it ends, and the next run is not harmed."""

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from config.job import Job
from config.models import model_facts
from config.presets import preset
from flows import analyze_images
from tasks.asking.priced import worst_case
from tasks.asking.question import Question
from tasks.simulator import Simulator
from tasks.simulator.lies import LIES, RAW
from tests.asking import MODEL, prepared, prices
from tests.runs import draw, rows, run_table, sha

pytestmark = pytest.mark.usefixtures("prefect_server")

# Sixty kinds of nonsense: every lie in a field, bodies that are none, and answers that never end or are much too large.
KINDS = [*LIES, *RAW, "html200", "foreign", "html", "truncate", "drop_paid", "drip:0.1", "bomb", "400_image", "400"]
KINDS += ["500", "502", "504", "408", "refusal_empty"]


def run(source: Path, output: Path, **options: Any) -> dict[str, Any]:
    summary: dict[str, Any] = analyze_images(str(source), str(output), Job(**options))
    return summary


def test_sixty_kinds_of_nonsense_are_sixty_rows_and_no_poison(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.asking.caller.BACKOFF_S", (0.05,))
    kinds = [*KINDS, *LIES][:60]
    assert len(set(kinds)) > 55
    images = draw(tmp_path / "images", 60)
    faults = {sha(path.read_bytes()): [kind] * 30 for path, kind in zip(sorted(images.iterdir()), kinds, strict=True)}
    simulator.set_faults(script=faults)
    began = time.monotonic()
    first = run(images, tmp_path / "out", name="lies", timeout=3.0, attempts=3, max_cost=Decimal(5))
    assert time.monotonic() - began < 300

    results, calls = rows(first), rows(first, "calls")
    assert first["status"] == "completed_with_failures" and len(results) == 60
    failed = results[results["status"] != "ok"]
    assert set(failed["status"]) <= {"unavailable", "rejected", "unreadable", "invalid", "refused"}
    assert failed["error"].str.len().gt(0).all() and failed["error_code"].str.len().gt(0).all()
    assert set(calls["paid"]) == {"yes", "no", "maybe"} and (calls["cost_usd"] >= 0).all()
    asked_for = Question("", model_facts(MODEL), MODEL, preset("ocr").prompt, room=8192)
    worst = worst_case(asked_for, prepared(), prices())
    assert calls["cost_usd"].sum() <= worst * len(calls)
    assert run_table(tmp_path / "out")["cost_usd"][0] == calls["cost_usd"].sum() == results["cost_usd"].sum()
    bad_calls = calls[calls["paid"] == "maybe"]
    assert bad_calls["error"].str.len().gt(0).all() and (bad_calls["cost_usd"] == 0).all()

    simulator.set_faults()
    asked = simulator.ledger().requests
    second = run(images, tmp_path / "out", name="lies")
    lasting = {"invalid", "refused"}  # answers that were paid for, or decided by the model
    again = rows(second)
    assert set(again["status"]) <= {"ok", *lasting}
    kept = results["status"].isin(["ok", *lasting]).sum()
    assert simulator.ledger().requests - asked == 60 - kept, "what was paid for is not paid for again"


def test_what_the_api_cannot_read_stops_no_collection(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 25)
    damaged = sorted(images.iterdir())[:12]
    simulator.set_faults(script={sha(path.read_bytes()): ["400_image"] for path in damaged})
    first = run(images, tmp_path / "out")
    assert (first["status"], first["ok"], first["failed"]) == ("completed_with_failures", 13, 12)
    assert set(rows(first).query("status == 'unreadable'")["error_code"]) == {"image_refused"}
    second = run(images, tmp_path / "out")
    assert (second["status"], second["ok"], second["calls"]) == ("completed", 25, 12), "asked again, which is free"
