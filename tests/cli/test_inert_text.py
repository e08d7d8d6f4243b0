"""Text from outside is shown and does nothing: in a terminal, a log, Prefect's UI."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.cli.terminal import Terminal
from tasks.simulator import Simulator
from tasks.text import as_markdown, printable
from tests.runs import ROOT, end, picture, rows, start

TITLE = "\x1b]0;pwned\x07"
IMAGE = "![x](http://127.0.0.1:9/x)"
HOSTILE = f"a{TITLE}[red]b\u202e\u2028{IMAGE}.jpg".replace("/", "∕")


@given(st.text())
def test_printable_text_is_one_line_without_anything_that_steers(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert all(one.isprintable() or one in "\u200d\u00a0\u3000" or one.isspace() for one in shown)
    assert not any(one in shown for one in "\x1b\x07\x9b\r\n\u202e\u2066")
    shown.encode()


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("Straße 5, 12.50 €", "领収書", "👩‍👧 photo.jpg", "עברית"):
        assert printable(text) == text


@given(st.text())
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    """By a CommonMark reader with tables, HTML and automatic links."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(f"| a |\n| --- |\n| x{as_markdown(text)}x |\n")
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "text_special"}
    shown = "".join(child.content for child in inline)
    assert shown.split() == f"ax{printable(text)}x".split()


def test_the_terminal_shows_a_steering_name_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("Note", HOSTILE)
    shown = capsys.readouterr().out
    assert "\x1b]" not in shown and "\x07" not in shown and "\u202e" not in shown
    assert r"\x1b]0;pwned\x07[red]b\u202e" in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_hostile_name_and_answer_reach_nobody(simulator: Simulator, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "good.jpg").write_bytes(picture(1))
    (images / HOSTILE).write_bytes(b"\xff\xd8\xff nothing")
    ended = end(start("run", images, "--output", tmp_path / "out", "--name", "hostile", "--json"))
    assert ended.status == 3, ended.err
    assert "\x1b]" not in ended.out + ended.err and "\x07" not in ended.out + ended.err
    assert HOSTILE in set(rows(ended.summary)["name"]), "the table keeps what it was"
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["hostile-failures"])))
    stored = [str(one.data) for one in found if "pwned" in str(one.data)]
    assert stored and not any(IMAGE.replace("/", "∕") in one for one in stored)
    assert all(r"\\!\\[x\\](http" in one for one in stored)


def test_a_package_of_the_users_that_hides_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text("")
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.path.append({str(ROOT)!r})\nimport flows\nflows.analyze_images('a', 'b')\n")
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1].startswith(f"ImportError: {tmp_path / 'config' / '__init__.py'} hides")
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.append({str(ROOT)!r}); from flows.__main__ import main; main()",
    ]
    ended = subprocess.run([*command, "prices"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines() == [
        f"visionflow: {tmp_path / 'config' / '__init__.py'} hides visionflow's own package `config`. "
        "Rename it, or start from another folder."
    ]
