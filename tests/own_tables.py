"""A user's own tables, in the folder that VISIONFLOW_CONFIG names."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import models, prices, user_files

OwnTables = Callable[..., Path]


@pytest.fixture
def own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnTables]:
    """Writes files such as presets.toml into a folder of the user's, and returns the folder."""
    folder = tmp_path / "my-config"
    folder.mkdir()

    def write(**files: str) -> Path:
        for name, text in files.items():
            (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("VISIONFLOW_CONFIG", str(folder))
        forget()
        return folder

    yield write
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Read the tables anew, as a new process would."""
    for cached in (user_files.load, models.model_facts, prices.price_table):
        cached.cache_clear()
