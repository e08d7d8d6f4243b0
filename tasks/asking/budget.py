"""The cap on what a run may spend: the worst case of each call is set aside before the call is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from config.prices import Price
from tasks.asking.question import Question
from tasks.pricing import Usage, cost_usd
from tasks.records import PreparedImage
from tasks.tokens import image_tokens

# Tokens the API adds around a request of ours (roles, schema instructions); generous, since this is a worst case.
OVERHEAD_TOKENS = 1000


class BudgetSpent(Exception):
    """The next call could pass the cap."""


class Budget:
    """US dollars spent, set aside and allowed. Lives on one event loop."""

    def __init__(self, cap: Decimal | None) -> None:
        self.cap = cap
        self.spent = Decimal(0)
        self.set_aside = Decimal(0)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserved(self, worst: Decimal) -> AsyncIterator[None]:
        """Hold the worst case of one call; wait while calls in flight may still leave room; BudgetSpent if not."""
        if self.cap is None:
            yield
            return
        async with self._changed:
            while self.spent + self.set_aside + worst > self.cap:
                if not self.set_aside:
                    raise BudgetSpent
                await self._changed.wait()
            self.set_aside += worst
        try:
            yield
        finally:
            async with self._changed:
                self.set_aside -= worst
                self._changed.notify_all()


def worst_case(question: Question, image: PreparedImage, prices: tuple[Price, ...]) -> Decimal:
    """The most that one call can cost: every byte of text a token, and the whole of max_tokens used."""
    if not prices:
        return Decimal(0)
    prompt = image_tokens(image.width, image.height) + question.text_bytes + OVERHEAD_TOKENS
    return cost_usd(Usage(input=prompt, output=question.max_tokens, geo="us"), prices)
