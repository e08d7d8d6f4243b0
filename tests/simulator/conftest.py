"""The simulator's own tests: as it comes, and in no environment variable."""

from collections.abc import Iterator

import pytest

from tasks.simulator import Simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A simulator of its own for each test: starting one takes a millisecond."""
    with Simulator() as running:
        yield running
