"""What lies in the repository: links that lead somewhere, no name of a machine, no stranger at the top."""

import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.pages import CODE, DOCUMENTS, MANUAL, README, ROOT, section, without_blocks

TOP_LEVEL = {*CODE, "data", "deployments", "tests"}
TOP_LEVEL |= {"pyproject.toml", "README.md", "CONTRIBUTING.md", "LICENSE", "CHANGELOG.md", "Makefile"}
TOP_LEVEL |= {"requirements.txt", "requirements-dev.txt"}
# Put together from pieces, so that this file does not hold what it looks for.
FORBIDDEN = [
    *(f"/{folder}/" for folder in ("home", "work", "root", "Users", "opt")),
    *(f"python{end}" for end in ("hosted.org", "mirror")),
    *(f"{option}-url" for option in ("--index", "--extra-index")),
    "pypi" + ".org",
]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_exist(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[page]) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    named = re.findall(r"`((?:config|tasks|flows|tests|data|deployments)/[\w./-]*\w/?)`", DOCUMENTS[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_variables_of_the_environment_are_listed() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    listed = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert set(re.findall(r"\b(?:ANTHROPIC|AWS|VISIONFLOW|PREFECT)_[A-Z_]+\b", MANUAL)) == listed
    code = "".join(path.read_text(encoding="utf-8") for name in CODE for path in (ROOT / name).rglob("*.py"))
    assert set(re.findall(r'environ(?:\.get\(|\[)"((?:ANTHROPIC|VISIONFLOW)_[A-Z_]+)"', code)) <= listed


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 160


def test_the_changelog_has_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert project["license"] in section("Licence")


def test_the_top_level_holds_only_what_belongs_there() -> None:
    top = {path.partition("/")[0] for path in repository_files()}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{path}: {word}"
        for path in repository_files()
        for word in FORBIDDEN
        if word.encode() in (ROOT / path).read_bytes()
    ]
    assert found == []


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may say after the #."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(DOCUMENTS[page]), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def repository_files() -> tuple[str, ...]:
    """The files that are in the repository or would be added to it."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        answer = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone")
    names = filter(None, os.fsdecode(answer).split("\0"))
    return tuple(name for name in names if (ROOT / name).is_file())
