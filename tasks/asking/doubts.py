"""When the first images all end the same way: is it the question, which is wrong for all, or the images?

Answers that do not fit are paid for, so ten of them are enough. Requests that are refused cost nothing, and damaged
images may stand first in a folder: then the same question is asked about a sound image, first by count_tokens, which is
free. Where that has nothing against it, a call decides: free where it is refused, else a row of `calls` like any other.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from tasks.asking.caller import Caller, CallFailed
from tasks.asking.counting import one_patch, refuses
from tasks.asking.records import EngineSettings, Outcome, Page, Progress
from tasks.asking.streaks import ALIKE_FAILURES
from tasks.errors import OutputError, SchemaError

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

SOUND = "a white square, to try the question"  # as `image` in `calls`


class Doubts:
    """Watches how images end, for one engine."""

    def __init__(self, settings: EngineSettings, client: "AsyncAnthropic", caller: Caller) -> None:
        self._settings = settings
        self._client = client
        self._caller = caller

    async def look(self, outcome: Outcome, progress: Progress) -> None:
        """SchemaError if the question must be wrong: that must not cost a thousand answers."""
        all_alike = progress.statuses[outcome.status] == progress.done == ALIKE_FAILURES
        if outcome.cached or not all_alike or outcome.status not in ("invalid", "truncated", "rejected"):
            return
        if outcome.status == "rejected" and not await self._is_refused(outcome):
            return
        raise SchemaError(
            f"The first {ALIKE_FAILURES} images all ended as {outcome.status} ({outcome.error}). "
            "Check the schema, the prompt and --max-tokens."
        )

    async def _is_refused(self, outcome: Outcome) -> bool:
        """Whether the question is refused about a sound image too."""
        if self._settings.endpoint.count_tokens and await refuses(self._client, outcome.step.question):
            return True
        try:
            tried = await self._caller.answer(Page(SOUND, one_patch()), outcome.step)
        except CallFailed as failed:
            return failed.status == "rejected"
        with suppress(OutputError):  # then the next call stops the run
            await tried.kept()  # nowhere: nobody wants to know, but it was paid
        return False
