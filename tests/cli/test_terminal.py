"""What a person sees in a terminal of 80 columns, and what a file or a pipe gets instead of bars."""

import io
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from config.job import Job
from flows.analyze_images import analyze_images
from flows.cli import terminal as terminal_module
from flows.cli.conduct import Follower
from flows.cli.terminal import LABEL, Terminal, fitting
from tasks.orchestration import progress
from tasks.orchestration.invoker import Invoker, invoked_by
from tasks.orchestration.progress import Standing, facts
from tasks.simulator import Simulator
from tests.runs import draw

LARGE = Standing(1_000_000, 999_999, 1_000_000, 12_345, 1_234, 1000, 123.45, Decimal("1234.5678"), Decimal(10_000))


def test_the_figures_of_a_large_run_fit_and_the_money_stays_longest() -> None:
    told = facts(LARGE)
    assert fitting(told, 200).split("  ")[1:] == list(told.values())
    room = 80 - LABEL - 12 - len("1,000,000/1,000,000") - 2
    assert fitting(told, room) == "  $1,234.57 of $10,000.00  0 s left"
    for room in range(10, 120):
        assert len(fitting(told, room)) <= max(room, len("  $1,234.57 of $10,000.00"))


@pytest.fixture
def eighty(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns without colours."""
    screen = io.StringIO()

    def console(**_: Any) -> Console:
        return Console(file=screen, width=80, force_terminal=True, no_color=True, highlight=False, soft_wrap=True)

    monkeypatch.setattr(terminal_module, "Console", console)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    return screen


def test_no_line_is_wider_than_the_terminal_whatever_its_label(eighty: io.StringIO) -> None:
    terminal = Terminal()
    reason = "The JPEG file is cut short: image file is truncated (130 bytes not processed), and more words follow"
    for label in ("Done", "Unreadable", "Unavailable"):
        terminal.say(label, f"coffee-damaged.jpg: {reason}")
    lines = eighty.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert len(lines) == 6 and max(map(len, lines)) <= 80
    words = {word for line in lines for word in line.split()}
    assert words <= set(f"Done Unreadable Unavailable coffee-damaged.jpg: {reason}".split()), "no word is broken"


class Piped:
    """Runs whose output goes to a pipe, with a line every so many seconds; `out` is what the last one said."""

    def __init__(self, simulator: Simulator, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.out, self._simulator, self._patch, self._capture = "", simulator, patch, capture

    def asked(self, images: Path, *, latency: float, pace: float, **job: Any) -> list[str]:
        """The lines of a run over the images that say how far it is."""
        self._patch.setattr(progress, "PACE_S", (pace,) * 100)
        self._simulator.change(latency=latency)
        with invoked_by(Invoker(observer=Follower(Terminal()))):
            analyze_images(str(images), str(images.parent / "out"), Job(concurrency=1, **job))
        self.out = self._capture.readouterr().out
        return [line for line in self.out.splitlines() if line.startswith("Asked")]


@pytest.fixture
def piped(
    prefect_server: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Piped:
    return Piped(simulator, monkeypatch, capsys)


def test_a_file_or_a_pipe_gets_a_line_now_and_then(piped: Piped, tmp_path: Path) -> None:
    lines = piped.asked(draw(tmp_path / "images", 5), latency=0.4, pace=0.3, name="job", max_cost=1)
    assert lines and all(line.startswith("Asked     ") and " of 5 images, " in line for line in lines), piped.out
    assert all(" of $1.00" in line for line in lines)
    assert "\x1b" not in piped.out and "━" not in piped.out


def test_every_page_of_a_file_is_counted_as_it_is_asked_about(piped: Piped, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 2)
    first, *others = (Image.new("L", (60, 40), shade) for shade in (0, 80, 160))
    first.save(images / "three-pages.tif", save_all=True, append_images=others)
    lines = [line.split()[1:5] for line in piped.asked(images, latency=0.5, pace=0.2, name="pages")]
    assert lines[-1][1:] == ["of", "5", "pages,"], piped.out
    assert all(int(done) <= int(of) for done, _, of, _ in lines) and lines[0][0] < lines[0][2], lines


@pytest.mark.usefixtures("prefect_server")
def test_a_long_wait_for_the_limits_of_the_endpoint_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal_module, "LONG_S", 0.5)
    images = draw(tmp_path / "images", 3)
    with Simulator(requests_per_minute=20, burst_s=1) as limited, invoked_by(Invoker(observer=Follower(Terminal()))):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", limited.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        analyze_images(str(images), str(tmp_path / "out"), Job())
    out = capsys.readouterr().out
    said = re.findall(r"the endpoint's limits hold calls back: the next one leaves in \d+ s\.", out)
    assert len(said) == 1, out
