"""Submitting: the intent is durable, then `create` is called, once, then the batch's id is durable.

Whatever happens between, there is an intent without an id, and nothing of it is asked again until `polling` has found
out what became of it. Images that were let go of are prepared again.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from tasks.asking.batches.choosing import Deadline
from tasks.asking.batches.intents import Intent, IntentLog, new_word
from tasks.asking.batches.packing import Backlog, Body, Request
from tasks.asking.batches.waiting import Waits
from tasks.asking.batches.wire import Wire
from tasks.asking.caller import BACKOFF_S
from tasks.asking.client import secrets_of
from tasks.asking.failures import Failure, Scope, classify, explained
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.pages import EngineSettings, NoAnswer, Page
from tasks.asking.question import Bodies
from tasks.asking.secrets import Secrets
from tasks.errors import EndpointError, Signal

CACHED_FOR = "1h"  # of a system prompt: five minutes, and it is gone before the next request of a batch has its turn
AT_A_TIME = 4  # images that are prepared again together
UNDECIDED = (408, 409, 500, 502, 503, 504)  # after these a batch may have been made all the same


class NotSubmitted(Signal):
    """The endpoint did not take the batch, and there is none."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def submit(wire: Wire, log: IntentLog, requests: list[Request], bodies: Bodies, secrets: Secrets) -> Intent:
    """Submit one batch; what comes back may have no id yet, if the reply was lost: `Poller.settled` finds it.

    Raises NotSubmitted where there is none for sure, OutputError where the intent cannot be written down.
    """
    word = new_word()
    intent = await asyncio.to_thread(log.write, word, [request.intended() for request in requests])
    try:
        batch = await wire.create(Body(word, requests, bodies))
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be known whether there is a batch
        failure = classify(error, secrets)
        if failure.paid == "maybe" or failure.status in UNDECIDED:
            return intent
        await asyncio.to_thread(log.done, intent)
        raise NotSubmitted(failure) from None
    return await asyncio.to_thread(log.named, intent, batch.id)


class Submitter:
    """Submits what waits in the backlog. Lives on one event loop."""

    def __init__(self, settings: EngineSettings, wire: Wire, log: IntentLog, halting: Halting, waits: Waits) -> None:
        assert settings.batches is not None
        self.backlog = Backlog(settings.batches.most_bytes, halting)
        self.deadline = Deadline(settings.batches.deadline, settings.concurrency)
        self._settings = settings
        self._wire = wire
        self._log = log
        self._halting = halting
        self._waits = waits
        self._secrets = secrets_of(settings.endpoint)
        self._bodies = Bodies(caching=settings.endpoint.caching, ttl=CACHED_FOR)

    async def submit_for_ever(self, submitted: Callable[[Intent, list[Request]], None]) -> None:
        """Until the run ends; `submitted` is told of each batch. Halted once the run is left, or nothing is taken."""
        try:
            while True:
                requests = await self.backlog.batch()
                if self.deadline.too_late:
                    self._give_back(requests)
                    continue
                try:
                    await self._submit(await self._with_images(requests), submitted)
                except BaseException:
                    self._give_back(requests)
                    raise
        finally:
            self._give_back(self.backlog.left())

    def _give_back(self, requests: list[Request]) -> None:
        """They were not submitted: whoever waits may ask again, if the run goes on."""
        for request in requests:
            self._waits.end(request.key, NoAnswer())

    async def _with_images(self, requests: list[Request]) -> list[Request]:
        """Those whose images are in memory: what was let go of is prepared again."""
        ready: list[Request] = []
        for start in range(0, len(requests), AT_A_TIME):
            some = requests[start : start + AT_A_TIME]
            failures = await asyncio.gather(*(restore_bytes(request.page) for request in some))
            for request, failure in zip(some, failures, strict=True):
                if failure is None:
                    ready.append(request)
                else:
                    self._waits.end(request.key, failure)
        return ready

    async def _submit(self, requests: list[Request], submitted: Callable[[Intent, list[Request]], None]) -> None:
        """Until the endpoint takes it, in halves where it is too large. Halted where it never will."""
        began, delays = monotonic(), iter(BACKOFF_S)
        while requests:
            try:
                async with self._halting.in_flight():
                    intent = await submit(self._wire, self._log, requests, self._bodies, self._secrets)
            except NotSubmitted as refused:
                failure = refused.failure
                if failure.status == 413 and len(requests) > 1:
                    await self._submit(requests[: len(requests) // 2], submitted)
                    await self._submit(requests[len(requests) // 2 :], submitted)
                    return
                if failure.status == 413:
                    self._waits.end(requests[0].key, failure)
                    return
                passing = failure.scope in (Scope.THROTTLE, Scope.MOMENT)
                if not passing or monotonic() - began > self._settings.patience:
                    message = explained(failure, self._settings.steps[0].question.model, self._settings.endpoint)
                    self._halting.halt(Halt.stopped(EndpointError(message)))
                    raise Halted from None
                await self._halting.stay(failure.retry_after or next(delays, BACKOFF_S[-1]))
            else:
                submitted(intent, requests)
                return


async def restore_bytes(page: Page) -> Failure | None:
    """Have the image's bytes in memory once more, of which a batch let go; why that cannot be, if so."""
    if page.image.data:
        return None
    try:
        assert page.again is not None
        image = await asyncio.to_thread(page.again)
    except Exception as error:  # noqa: BLE001  # whatever it is, this image cannot be asked about now
        failure = f"The image could not be read once more, to be asked about again ({type(error).__name__})."
    else:
        if image.sha256 == page.image.sha256:
            page.image = image
            return None
        failure = "The file changed while its first batch ran. The same command asks about it as it is now."
    page.given_up = Failure(Scope.MOMENT, "failed", "no", failure, "changed")
    return page.given_up
