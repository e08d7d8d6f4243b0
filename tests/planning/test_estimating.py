"""An estimate is made from headers alone, and a run then pays just those input tokens."""

import io
import json
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from config.job import Job
from config.presets import preset
from flows.__main__ import main
from flows.cli.estimate import make_estimate
from tasks.listing import list_images
from tasks.planning.estimating import (
    Assumed,
    Measured,
    assumed_prompt,
    duplicates,
    expected_cost,
    make_offer,
    measure,
    measure_all,
)
from tasks.planning.plan import make_plan
from tasks.planning.resolving import resolve
from tasks.simulator import Simulator
from tasks.types import Source

ASSUMED = Assumed(prompt=Decimal(100), prompt_source="a test", output=Decimal(200), output_source="a test")


Patch = pytest.MonkeyPatch


@pytest.fixture
def closed(monkeypatch: Patch) -> Iterator[str]:
    """An address where nobody listens, with a key for it."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-a-test")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, but not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def picture(path: Path, width: int, height: int, **options: Any) -> Path:
    Image.new("RGB", (width, height), "white").save(path, **options)
    return path


def source(path: Path) -> Source:
    return Source(str(path), path.name, path.stat().st_size)


def test_an_image_is_measured_without_reading_the_whole_file(tmp_path: Path) -> None:
    noise = Image.effect_noise((1000, 700), 90).convert("RGB")
    path = tmp_path / "noise.png"
    noise.save(path)
    assert path.stat().st_size > 500_000
    data = path.read_bytes()
    path.write_bytes(data[:65_536] + b"\0" * (len(data) - 65_636) + data[-100:])  # only its two ends are needed
    assert measure(source(path)) == Measured(1000, 700, format="PNG")


def test_a_tiff_with_its_header_at_its_end_is_read_on(tmp_path: Path) -> None:
    pages = [Image.effect_noise((900, 1200), 90) for _ in range(3)]
    path = tmp_path / "scan.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert measure(source(path)) == Measured(900, 1200, pages=3, format="TIFF")


def test_what_cannot_be_sent_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    paths = [tmp_path / "text.jpg", tmp_path / "empty.png", picture(tmp_path / "good.png", 56, 56)]
    gone = Source(str(tmp_path / "gone.jpg"), "gone.jpg", 100)
    assert measure_all([*map(source, paths), gone]) == [None, None, Measured(56, 56, format="PNG"), None]


def test_a_file_that_was_cut_short_is_not_counted(tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.jpg", 300, 300)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-20])
    assert measure_all([source(whole), source(cut)]) == [Measured(300, 300, format="JPEG"), None]


def test_orientation_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert measure(source(picture(tmp_path / "phone.jpg", 400, 300, exif=exif))) == Measured(300, 400, format="JPEG")


def test_copies_are_found_by_content_and_only_files_of_equal_size_are_read(tmp_path: Path) -> None:
    first = picture(tmp_path / "a.png", 60, 60)
    copy = tmp_path / "b.png"
    copy.write_bytes(first.read_bytes())
    same_size = tmp_path / "c.png"
    same_size.write_bytes(bytes(reversed(first.read_bytes())))
    other = picture(tmp_path / "d.png", 90, 60)
    assert duplicates([source(path) for path in (first, copy, same_size, other)]) == [1]


def test_an_offer_is_tokens_times_the_price_table() -> None:
    asked = resolve(Job(model="claude-sonnet-4-6", preset="ocr"))
    found = make_offer(
        [Measured(1092, 1092, pages=2)], asked, model="claude-sonnet-4-6", preset=asked.preset, assumed=ASSUMED
    )
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (2 * (39 * 39 + 100), 2 * 200)
    assert found.online_usd == (Decimal(3242) * 3 + Decimal(400) * 15) / 1_000_000
    assert found.batch_usd == found.online_usd / 2


def test_a_small_preset_and_a_standard_model_cost_less() -> None:
    asked = resolve(Job(model="claude-haiku-5-5", preset="ocr"))
    photo = [Measured(4032, 3024)]
    large = make_offer(photo, asked, model="claude-haiku-5-5", preset=preset("ocr"), assumed=ASSUMED)
    small = make_offer(photo, asked, model="claude-haiku-5-5", preset=preset("classification"), assumed=ASSUMED)
    standard = make_offer(photo, asked, model="claude-haiku-4-5", preset=preset("ocr"), assumed=ASSUMED)
    assert large and small and standard
    assert small.input_tokens < standard.input_tokens < large.input_tokens
    assert large.online_usd < standard.online_usd  # fewer tokens, but at ten times the price


def test_a_model_without_a_price_has_no_offer() -> None:
    asked = resolve(Job())
    assert make_offer([Measured(10, 10)], asked, model="gpt-4.1", preset=asked.preset, assumed=ASSUMED) is None


def test_a_gateways_models_are_offered_at_its_own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    picture(tmp_path / "a.png", 56, 56)
    asked = resolve(Job(endpoint="holysheep", model="gpt-4.1"))
    estimate = make_estimate(list_images(str(tmp_path)), asked, output=None)
    assert estimate.models[0].model == "gpt-4.1"
    assert {"claude-sonnet-4", "gemini-2.5-flash", "deepseek-v3.2"} < {offer.model for offer in estimate.models}
    assert estimate.assumed.prompt_source == "assumed from the prompt's length"


def test_the_prompt_is_counted_by_the_endpoint_once_and_for_free(tmp_path: Path, simulator: Simulator) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png", 280 + 28 * number, 280)
    asked = resolve(Job(endpoint=simulator.url, answer_schema="receipt"))
    estimate = make_estimate(list_images(str(tmp_path)), asked, output=None)
    ledger = simulator.ledger()
    assert (ledger.requests, ledger.counted, ledger.billed) == (0, 1, 0)
    assert estimate.assumed.prompt_source == f"counted by {simulator.url}"
    assert estimate.models[0].input_tokens == (100 + 110 + 120) + 3 * int(estimate.assumed.prompt)


def test_the_estimate_as_json_names_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = Image.new("L", (100, 100))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(buffer.getvalue())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["estimate", str(tmp_path), "--endpoint", "http://127.0.0.1:9", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["to_ask"], said["duplicates"], said["unreadable"]) == (3, 1, 1, 1)
    assert said["models"][0]["model"] == "claude-haiku-5-5"
    assert said["duplicates_usd"] == pytest.approx(said["models"][0]["online_usd"])
    assert said["models"][0]["online_usd"] > said["models"][0]["batch_usd"] > 0


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `visionflow estimate` prints."""

    def estimate(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["estimate", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return estimate


def test_what_would_stop_or_surprise_a_run_is_a_note(tmp_path: Path, said: Callable[..., str], closed: str) -> None:
    picture(tmp_path / "a.png", 280, 280)
    printed = said(tmp_path, "--endpoint", f"{closed}/v1")
    notes = [line.removeprefix("Note").strip() for line in printed.splitlines() if line.startswith("Note")]
    assert notes == [
        f"Took /v1 off the endpoint {closed}/v1: the client adds /v1/messages itself.",
        f"{closed} has no prices of its own: calls are counted at anthropic's list price.",
        f"Cannot reach {closed} (ConnectError). Check the address (--endpoint or ANTHROPIC_BASE_URL) and the "
        "network. A run would stop here; the estimate goes on without the endpoint.",
        "No call was paid for.",
    ]
    assert json.loads(said(tmp_path, "--endpoint", f"{closed}/v1", "--json"))["notices"] == notes[:3]


def test_a_model_without_a_price_is_named(tmp_path: Path, said: Callable[..., str], simulator: Simulator) -> None:
    picture(tmp_path / "a.png", 280, 280)
    (tmp_path / "job.yaml").write_text("unpriced: allow\nmodel: some-model\n")
    printed = said(tmp_path, "--job", tmp_path / "job.yaml", "--endpoint", simulator.url)
    assert "some-model has no price at custom: its calls count as $0." in printed


def test_a_wrong_key_is_named(
    tmp_path: Path, said: Callable[..., str], simulator: Simulator, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-invalid-secret")
    picture(tmp_path / "a.png", 280, 280)
    printed = said(tmp_path)
    assert f"Note      {simulator.url} refuses the key (401 invalid x-api-key). Check ANTHROPIC_API_KEY" in printed
    assert "secret" not in printed


def test_an_estimate_says_what_is_exact(
    tmp_path: Path, said: Callable[..., str], simulator: Simulator, closed: str
) -> None:
    picture(tmp_path / "a.png", 280, 280)
    counted, assumed = said(tmp_path), said(tmp_path, "--endpoint", closed)
    exact = "Exact: the tokens of the images, by the published rule"
    assert f"{exact}, and of the prompt with claude-haiku-5-5 and preset ocr." in counted
    assert "Assumed: the prompt with other models and presets, and how long the answers are." in counted
    assert f"{exact}." in assumed
    assert "Assumed: the prompt, and how long the answers are." in assumed


@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_figure_is_cut_where_the_terminal_is_narrow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: Callable[..., str], monkeypatch: Patch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    picture(tmp_path / "a.png", 280, 280)
    (offer, *_) = json.loads(said(tmp_path, "--json"))["models"]
    row = next(line.split() for line in said(tmp_path).splitlines() if line.startswith(offer["model"]))
    assert row[1:3] == [f"{offer['input_tokens']:,}", f"{offer['output_tokens']:,}"]
    assert row[3:] == [f"${offer['online_usd']:,.4f}", f"${offer['batch_usd']:,.4f}"]
    assert main(["prices"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [word.strip() for word in table[1].split("  ") if word][-4:] == [
        "output",
        "cache write",
        "cache read",
        "batch",
    ]
    haiku = "claude-haiku-5-5 ≤100k anthropic Anthropic 0.10 0.50 0.125 0.01 0.5"
    assert haiku in [" ".join(line.split()) for line in table]
    assert "…" not in "".join(table)


@pytest.mark.usefixtures("home", "simulator")
def test_a_run_says_about_what_it_will_cost_from_a_sample_of_headers(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(100):
        picture(images / f"{number:03}.png", 280, 280)
    plan = make_plan(str(images), str(tmp_path / "out"), Job(preset="classification"))
    few, many = (expected_cost(plan, plan.listing.images[:count]) for count in (10, 100))
    assert few and many == few * 10
    exact = make_offer(
        [Measured(280, 280)] * 10,
        resolve(Job(preset="classification")),
        model=plan.job.model,
        preset=plan.preset,
        assumed=Assumed(
            assumed_prompt(plan.question.prompt, plan.job.model), "", Decimal(plan.preset.typical_output), ""
        ),
    )
    assert exact and few == exact.online_usd
    assert expected_cost(plan, []) is None
