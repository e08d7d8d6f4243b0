"""`visionflow` in this process, some images, and an endpoint that nobody may have paid."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.simulator import Simulator
from tests.runs import CommandLine, draw


@pytest.fixture
def visionflow(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return draw(tmp_path / "images", 3)


@pytest.fixture
def unpaid(simulator: Simulator) -> Iterator[Simulator]:
    """A simulator that must not have been asked about one image when the test ends."""
    yield simulator
    assert simulator.ledger().requests == 0
