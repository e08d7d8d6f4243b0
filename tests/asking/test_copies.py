"""Copies of a picture share one answer: whoever asked is the first, and pays; the others are duplicates."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tasks.asking.answer import Answer
from tasks.asking.claims import Claims
from tasks.asking.fallbacks import FallbackChain
from tasks.asking.halting import Halting
from tasks.asking.keeping import Keeping
from tasks.asking.pages import EngineSettings, Outcome, Page
from tasks.asking.question import Question, Step
from tasks.billing.usage import Usage
from tests.asking import JsonStore, at, page, steps

RUN = "20261123T000000Z-test"


class CopyComesWithTheAnswer:
    """An endpoint whose answer and a copy of the picture come in the same turn of the event loop."""

    def __init__(self) -> None:
        self.chain: FallbackChain
        self.copy: asyncio.Task[Outcome] | None = None

    async def answer(self, asking: Page, _step: Step) -> Answer:
        asking.attempts += 1
        self.copy = asyncio.create_task(self.chain.ask(page(0, "images/copy.png")))
        used = Usage(input=10, output=2)
        now = datetime.now(UTC)
        return Answer("A cat.", "end_turn", "m", "req_1", used, Decimal("0.01"), 1024, 5, now, RUN, asking.uri)

    def shared(self, _page: Page, _key: str, _question: Question) -> None:
        """Nobody waits in a batch."""

    def charge(self, _page: Page, _key: str, _kept: Answer) -> None:
        """Nothing was paid before."""


def test_a_copy_that_comes_with_the_answer_is_the_duplicate(tmp_path: Path) -> None:
    async def both() -> tuple[Outcome, Outcome]:
        settings = EngineSettings(RUN, at("http://127.0.0.1:1"), steps())
        halting, endpoint = Halting(lambda: None), CopyComesWithTheAnswer()
        keeping = Keeping(settings, JsonStore(tmp_path), halting)
        endpoint.chain = FallbackChain(settings, keeping, endpoint, halting, Claims())
        first = await endpoint.chain.ask(page(0, "images/first.png"))
        assert endpoint.copy is not None
        return first, await endpoint.copy

    first, copy = asyncio.run(both())
    assert (first.status, first.duplicate_of) == ("ok", None)
    assert (copy.status, copy.duplicate_of) == ("ok", "images/first.png")
