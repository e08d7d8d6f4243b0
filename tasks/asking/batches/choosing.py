"""Choosing batches: whether a question is sound enough for thousands, and whether a batch will come in time.

A batch's requests are only looked at as it runs. Where the model is known and no schema is asked for, nothing can be
wrong with the question. Else count_tokens is asked, which is free; where the endpoint does not have that, images are
asked about online, one after the other, until one is answered.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

from tasks.asking.caller import Answered, Caller
from tasks.asking.client import make_client
from tasks.asking.pages import EngineSettings, Page
from tasks.asking.probe import counts
from tasks.asking.question import Question, Step
from tasks.errors import SchemaError

FIRST_S = 3600.0  # as long as most batches take, says the API's guide; until one of this endpoint has ended
REMEMBERED = 10  # batches: the slowest of the last so many is expected
# Before the deadline, so that what is still in batches then can be cancelled and asked about online: some minutes, as
# cancelling takes, and some seconds an image, but never more than a quarter of the time in all.
CANCEL_S, CALL_S, MOST_SHARE = 300.0, 5.0, 0.25


class Trial:
    """The first question of one run, tried once."""

    def __init__(self, settings: EngineSettings, online: Caller) -> None:
        assert settings.batches is not None
        question = settings.steps[0].question
        self._settings = settings
        self._online = online
        self._over = settings.batches.model_known and question.schema is None
        self._known = settings.batches.model_known
        self._turn = asyncio.Lock()

    async def answer(self, page: Page, step: Step) -> Answered | None:
        """None once the question is known to be sound; until then this image's answer, from a call online.

        Raises what `Caller.answer` does; SchemaError where the endpoint refuses the question.
        """
        if self._over:
            return None
        async with self._turn:
            if self._over:
                return None
            if self._known and await self._counts(step.question):
                self._over = True
                return None
            answered = await self._online.answer(page, step)
            self._over = True
            return answered

    async def _counts(self, question: Question) -> bool:
        if not self._settings.endpoint.count_tokens:
            return False
        async with make_client(self._settings.endpoint, concurrency=1, timeout=30.0) as client:
            sound = await counts(client, question)
        if sound is False:
            raise SchemaError(
                f"{self._settings.endpoint.base_url} refuses the question, asked to count its tokens. "
                "Check the schema, the prompt and --max-tokens. Nothing was submitted."
            )
        return bool(sound)


class Deadline:
    """When all must be answered, in seconds from now, by how long this endpoint's batches have taken; never if None."""

    def __init__(self, seconds: float | None, concurrency: int, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._seconds = seconds
        self._end = None if seconds is None else clock() + seconds
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, seconds: float | None) -> None:
        """A batch has taken so long."""
        if seconds is not None:
            self._took.append(seconds)

    @property
    def expected(self) -> float:
        """Seconds that a batch submitted now is expected to take."""
        return max(self._took, default=FIRST_S)

    @property
    def too_late(self) -> bool:
        """Whether a batch submitted now would probably come too late."""
        return self._end is not None and self._clock() + self.expected > self._end

    def until_cancelling(self, requests: int) -> float | None:
        """Seconds until batches with so many requests have to be cancelled; None where there is no deadline."""
        if self._end is None or self._seconds is None:
            return None
        spare = min(CANCEL_S + requests * CALL_S / self._concurrency, self._seconds * MOST_SHARE)
        return self._end - spare - self._clock()
