"""`visionflow compare` over a sample whose truth the simulator knows, and spoils at a rate by model and size."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tasks.preparing import prepare_image, threads
from tasks.simulator import Simulator
from tasks.types import ImageRules, PreparedImage
from tests.own_tables import OwnTables, own_tables
from tests.runs import CommandLine, draw

__all__ = ["own_tables"]  # a fixture

COUNT = 24
ERRORS = "claude-haiku-5-5=0.02,claude-haiku-5-5@55=0.5,claude-sonnet-5-5=0.02"
VARIANT = {"model", "preset", "prompt", "images", "score", "low", "high", "cost_usd_per_1000", "fields"}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Labels of all images but the last two."""
    draw(tmp_path / "images", COUNT + 2)
    labels = [
        {"image": f"p{number:03}.jpg", "company": f"Shop {number}", "date": "2026-05-09", "total": f"{number + 1}.50"}
        for number in range(COUNT)
    ]
    path = tmp_path / "truth.jsonl"
    path.write_text("\n".join(map(json.dumps, labels)))
    return path


@pytest.fixture
def small_preset(own_tables: OwnTables) -> str:
    """A preset that sends images so small that the cheap model cannot read them."""
    own_tables(presets='[small]\nmax_edge = 50\nquality = 80\nprompt = "Read it."\nmax_tokens = 1000\n')
    return "small"


@pytest.mark.usefixtures("prefect_server", "home")
class TestCompare:
    """Whole comparisons over a socket."""

    def command(self, truth: Path, url: str, *more: str) -> tuple[object, ...]:
        folder = truth.parent
        options = ("--schema", "receipt", "--endpoint", url, "--no-thumbnails", "--no-progress", "--json")
        return ("compare", folder / "images", "--truth", truth, "--output", folder / "out", *options, *more)

    @pytest.mark.all
    def test_the_cheapest_that_holds_is_found_priced_and_explained_and_not_paid_again(
        self, visionflow: CommandLine, truth: Path, small_preset: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
        more = [f"--model=claude-{name}-5-5" for name in ("haiku", "sonnet")]
        more += [f"--preset={name}" for name in ("ocr", small_preset)]
        more.append("--verify=claude-opus-5-5")
        with Simulator(truth=str(truth), images=str(truth.parent / "images"), errors=ERRORS) as simulator:
            ended = visionflow(*self.command(truth, simulator.url, *more))
            assert ended.status == 0, ended.err
            asked = simulator.ledger().requests
            again = visionflow(*self.command(truth, simulator.url, *more))
            assert simulator.ledger().requests == asked
        found = json.loads(ended.out)
        assert found.keys() == {"images", "variants", "best", "why", "results"}
        assert found["images"] == COUNT
        by = {(one["model"], one["preset"]): one for one in found["variants"]}
        assert len(by) == 4 and all(one.keys() >= VARIANT for one in by.values())
        best = by["claude-haiku-5-5", "ocr"]
        assert best["low"] <= 0.98 <= best["high"]
        assert best["fields"].keys() == {"company", "date", "total"}
        poor = by["claude-haiku-5-5", "small"]
        assert poor["low"] <= 0.5 <= poor["high"] and poor["cost_usd_per_1000"] < best["cost_usd_per_1000"]
        assert found["best"] == {"model": "claude-haiku-5-5", "preset": "ocr", "prompt": None}
        assert found["why"].startswith("claude-haiku-5-5 ocr is the cheapest that holds ($")
        assert "claude-haiku-5-5 small" not in found["why"].partition(" is the cheapest")[0]

        runs = {one["run_id"] for one in found["variants"]}
        rows = pd.read_parquet(found["results"])
        rows = rows[rows["run_id"].isin(runs)]
        assert len(rows) == 4 * COUNT and set(rows["model"]) == {"claude-haiku-5-5", "claude-sonnet-5-5"}
        paid = rows[(rows["model"] == "claude-haiku-5-5") & (rows["preset"] == "ocr")]["cost_usd"].sum()
        assert best["cost_usd_per_1000"] == pytest.approx(float(paid) * 1000 / COUNT, abs=2e-6)
        assert poor["review"]["flagged"] > 0.5 and poor["review"]["errors_caught"] == 1
        assert best["batch_usd_per_1000"] == pytest.approx(best["cost_usd_per_1000"] / 2, abs=2e-6)

        kept = json.loads(again.out)
        for one in (*kept["variants"], *found["variants"]):
            one.pop("run_id")
        assert kept == found, "what was kept tells the same, prices and all"
        assert "2 images without a label left out" in ended.err and "Estimate" in ended.err

    def test_variants_that_send_images_alike_prepare_them_once(
        self, visionflow: CommandLine, truth: Path, small_preset: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
        prepared: list[int] = []

        def counted(data: bytes, rules: ImageRules) -> list[PreparedImage]:
            prepared.append(rules.max_edge)
            return prepare_image(data, rules)

        monkeypatch.setattr(threads, "prepare_image", counted)
        more = ["--preset=ocr", f"--preset={small_preset}", "--prompt=Read it.", "--prompt=Look.", "--limit=3"]
        with Simulator(truth=str(truth), images=str(truth.parent / "images")) as simulator:
            ended = visionflow(*self.command(truth, simulator.url, *more))
            assert (ended.status, simulator.ledger().requests) == (0, 4 * 3), ended.err
        assert len(prepared) == 2 * 3 and len(set(prepared)) == 2, "two presets, two prompts each"

    def test_one_cap_for_all_and_an_endpoint_that_is_away_are_no_score_of_a_model(
        self, visionflow: CommandLine, truth: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
        more = ["--prompt", "Read it.", "--prompt", "Look.", "--max-tokens", "200", "--attempts", "1"]
        with Simulator(truth=str(truth), images=str(truth.parent / "images")) as simulator:
            ended = visionflow(*self.command(truth, simulator.url, *more, "--max-cost", "0.004"))
            assert ended.status == 4, ended.err
            assert float(simulator.ledger().cost_usd) <= 0.004
            found = json.loads(ended.out)
            counted = [one["images"] for one in found["variants"]]
            assert 0 < sum(counted) < 2 * COUNT
            assert [one["prompt"] for one in found["variants"]] == ["Read it.", "Look."]

            simulator.set_faults("500=0.2")
            ended = visionflow(*self.command(truth, simulator.url, *more))
            assert ended.status == 3, ended.err
            found = json.loads(ended.out)
            assert sum(one["images"] for one in found["variants"]) < 2 * COUNT
            assert min(one["score"] for one in found["variants"]) == 1, "what was answered was right"


@pytest.mark.usefixtures("home")
def test_labels_that_do_not_fit_cost_nothing(visionflow: CommandLine, truth: Path, simulator: Simulator) -> None:
    output = truth.parent / "out"
    source, good = truth.parent / "images", ("--schema", "receipt", "--output", output)
    truth.write_text('{"image": "p000.jpg", "total": 1}\n{"image": "p001.jpg", "totl": 2}\n')
    line = visionflow.mistake("compare", source, "--truth", truth, *good, status=1)
    assert line == f"visionflow: {truth} row 2, totl: the schema has no such field. Did you mean total."
    line = visionflow.mistake("compare", source, "--truth", truth.parent / "none.csv", *good, status=2)
    assert "--truth: There is no " in line
    line = visionflow.mistake("compare", source, "--truth", truth, *good, "--tolerance", "2", status=2)
    assert line == "visionflow: --tolerance: '2' is not allowed: it must be at most 1."
    line = visionflow.mistake("compare", source, "--truth", truth, *good, "--preset", "ocrr", status=2)
    assert "--preset: There is no preset 'ocrr'" in line
    assert "--output is missing" in visionflow.mistake("compare", source, "--truth", truth, status=2)
    assert simulator.ledger().requests == 0
