"""A file that took all its time, or crashed its decoder twice, costs that once and not in every run."""

from collections import Counter
from pathlib import Path

import pytest

from config.job import Job
from flows import analyze_images
from tasks.errors import ImageError
from tasks.preparing import prepare_image
from tasks.simulator import Simulator
from tasks.types import ImageRules, PreparedImage
from tests.runs import draw, rows


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("code", "tries"), [("too_slow", 1), ("unsafe", 1), ("interrupted", 2)])
def test_a_lasting_verdict_is_kept_with_the_unchanged_file(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, tries: int
) -> None:
    tried: Counter[bytes] = Counter()

    def prepare(data: bytes, rules: ImageRules) -> list[PreparedImage]:
        tried[data[:4]] += 1
        if data.startswith(b"<svg"):
            raise ImageError(code, "It took a minute.")
        return prepare_image(data, rules)

    monkeypatch.setattr("tasks.preparing.threads.prepare_image", prepare)
    folder = draw(tmp_path / "in", 2)
    (folder / "slow.svg").write_text("<svg/>")
    job = Job(model="claude-haiku-5-5", name="photos", no_thumbnails=True)
    for _ in range(2):
        summary = analyze_images(str(folder), str(tmp_path / "out"), job)
        table = rows(summary)
        assert list(table.loc[table.name == "slow.svg", "error_code"]) == [code]
        assert set(table.status) == {"ok", "unreadable"}
    assert tried[b"<svg"] == tries
    if tries == 1:
        analyze_images(str(folder), str(tmp_path / "out"), job.model_copy(update={"refresh": True}))
        assert tried[b"<svg"] == 2, "--refresh tries again"
        (folder / "slow.svg").write_text("<svg />")
        analyze_images(str(folder), str(tmp_path / "out"), job)
        assert tried[b"<svg"] == 3, "and so does another file of that name"
