"""From the pool to the endpoint, batch after batch; images that were let go of are prepared again."""

import asyncio
from collections.abc import Callable
from time import monotonic

from tasks.asking.batches.desk import Desk, NotSubmitted
from tasks.asking.batches.intents import Intent
from tasks.asking.batches.pool import Pool, Waiting
from tasks.asking.caller import BACKOFF_S
from tasks.asking.failures import Failure, Scope, explained
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.pages import EngineSettings
from tasks.asking.question import Bodies
from tasks.errors import EndpointError

AT_A_TIME = 4  # images that are prepared again together


class Submitter:
    """Submits what waits in the pool. Lives on one event loop."""

    def __init__(self, settings: EngineSettings, desk: Desk, pool: Pool, halting: Halting) -> None:
        self._settings = settings
        self._desk = desk
        self._pool = pool
        self._halting = halting
        self._bodies = Bodies(caching=settings.endpoint.caching)

    async def submit_for_ever(self, submitted: Callable[[Intent, list[Waiting]], None]) -> None:
        """Until the run ends; `submitted` is told of each batch. Halted once the run is left, or nothing is taken."""
        try:
            while True:
                waiting = await self._pool.batch()
                try:
                    await self._submit(await self._with_images(waiting), submitted)
                except BaseException:
                    _fail(waiting, Halted())
                    raise
        finally:
            _fail(self._pool.left(), Halted())

    async def _with_images(self, waiting: list[Waiting]) -> list[Waiting]:
        """Those whose images are in memory: what was let go of is prepared again."""
        missing = [one for one in waiting if not one.request.page.image.data]
        for start in range(0, len(missing), AT_A_TIME):
            some = missing[start : start + AT_A_TIME]
            await asyncio.gather(*(_prepare_again(one) for one in some))
        return [one for one in waiting if one.request.page.image.data]

    async def _submit(self, waiting: list[Waiting], submitted: Callable[[Intent, list[Waiting]], None]) -> None:
        """Until the endpoint takes it, in halves where it is too large. Halted where it never will."""
        began, delays = monotonic(), iter(BACKOFF_S)
        while waiting:
            try:
                async with self._halting.in_flight():
                    intent = await self._desk.submit([one.request for one in waiting], self._bodies)
            except NotSubmitted as refused:
                failure = refused.failure
                if failure.status == 413 and len(waiting) > 1:
                    await self._submit(waiting[: len(waiting) // 2], submitted)
                    await self._submit(waiting[len(waiting) // 2 :], submitted)
                    return
                if failure.status == 413:
                    waiting[0].end.set_result(failure)
                    return
                passing = failure.scope in (Scope.THROTTLE, Scope.MOMENT)
                if not passing or monotonic() - began > self._settings.patience:
                    message = explained(failure, self._settings.steps[0].question.model, self._settings.endpoint)
                    self._halting.halt(Halt("stopped", message, EndpointError(message)))
                    raise Halted from None
                await self._halting.stay(failure.retry_after or next(delays, BACKOFF_S[-1]))
            else:
                submitted(intent, waiting)
                return


def _fail(waiting: list[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.end.done():
            one.end.set_exception(error)


async def _prepare_again(waiting: Waiting) -> None:
    page, failure = waiting.request.page, None
    try:
        assert page.again is not None
        image = await asyncio.to_thread(page.again)
    except Exception as error:  # noqa: BLE001  # whatever it is, this image cannot be asked about now
        failure = f"The image could not be read once more for another batch ({type(error).__name__})."
    else:
        if image.sha256 == page.image.sha256:
            page.image = image
        else:
            failure = "The file changed while its first batch ran. The same command asks about it as it is now."
    if failure is not None:
        page.given_up = Failure(Scope.MOMENT, "failed", "no", failure, "changed")
        waiting.end.set_result(page.given_up)
