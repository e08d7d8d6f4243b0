"""Waiting: pages whose requests are in a batch, or wait for one, and their ends.

A batch may take a day, and thousands of images wait at once. So nobody stands in line: a page's question is left
(`Later`), a few bytes remember whose it is, and when its end is there the page comes again and goes on from what is
kept. An end is taken by the page whose request it was; a page that shares its picture finds the kept answer then.
"""

import asyncio
from decimal import Decimal

from tasks.asking.answer import Answer
from tasks.asking.limits.budget import Budget
from tasks.asking.pages import End, NoAnswer, Page, Wait


class Waits:
    """All that is waited for, by the names of requests. Lives on one event loop."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waits: dict[bytes, Wait] = {}
        self._changed = asyncio.Event()

    def begin(self, page: Page, key: bytes, worst: Decimal | None = None) -> Wait:
        """The page waits for its request, or goes on to wait for it; `worst` is set aside for that."""
        if page.wait is None or page.wait.key != key:
            self.over(page)
            page.wait = self._waits[key] = Wait(key)
        page.wait.worst = worst
        return page.wait

    def shared(self, page: Page, key: bytes) -> Wait | None:
        """The wait of another page for the same request."""
        wait = self._waits.get(key)
        return None if wait is page.wait else wait

    def end(self, key: bytes, end: End) -> None:
        """Tell who waits for a request how it ended, if anybody does."""
        wait = self._waits.get(key)
        if wait is None:
            return
        wait.end = end
        if wait.worst is not None:  # at once: pages that wait for room under the cap may be those it is to come with
            self._budget.settle(wait.worst, _cost(wait.worst, end))
        self._change()

    def end_all(self) -> None:
        """Nobody waits any longer: the run has ended."""
        for key, wait in self._waits.items():
            if wait.end is None:
                self.end(key, NoAnswer())

    def over(self, page: Page) -> None:
        """The page has what it waited for, or never will."""
        wait, page.wait = page.wait, None
        if wait is None:
            return
        wait.over = True
        del self._waits[wait.key]
        if wait.shared:
            self._change()

    async def change(self) -> None:
        """Until something has ended. Whoever waits looks before: what is there already wakes nobody."""
        await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _cost(worst: Decimal, end: End) -> Decimal:
    """What the cap has to count of a request: all that was set aside where it may have been paid."""
    if isinstance(end, NoAnswer):
        return worst if end.where is not None else Decimal(0)
    if end.paid == "maybe":
        return worst
    return end.cost_usd if isinstance(end, Answer) else Decimal(0)
