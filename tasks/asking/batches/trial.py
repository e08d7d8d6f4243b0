"""Whether a question is sound, before thousands are submitted: a batch's requests are only looked at as it runs.

Where the model is known and no schema is asked for, nothing can be wrong with it. Else count_tokens is asked, which is
free; where the endpoint does not have that, images are asked about online, one after the other, until one is answered.
"""

import asyncio

from tasks.asking.caller import Answered, Caller
from tasks.asking.client import make_client
from tasks.asking.pages import EngineSettings, Page
from tasks.asking.probe import counts
from tasks.asking.question import Question, Step
from tasks.errors import SchemaError


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
