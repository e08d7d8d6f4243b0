"""Results of a batch become kept answers and rows of `calls`, as they are read, each once whoever reads them."""

import asyncio
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.asking.answer import MOST, Answer
from tasks.asking.batches.intents import Intent
from tasks.asking.batches.requests import Asked
from tasks.asking.batches.results import Result, gone, results_in
from tasks.asking.batches.wire import Batch
from tasks.asking.caller import Answered
from tasks.asking.calls import CallLedger
from tasks.asking.client import secrets_of
from tasks.asking.failures import Failure
from tasks.asking.halting import Halting
from tasks.asking.keeping import Keeping
from tasks.asking.pages import EngineSettings
from tasks.asking.priced import Pricer

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 100  # answers that are kept together, and share an fsync


class Merging:
    """Takes in the results of batches for one run. Lives on one event loop."""

    def __init__(self, settings: EngineSettings, keeping: Keeping, ledger: CallLedger, halting: Halting) -> None:
        self.pricer = Pricer(settings, halting, batch=True)
        self._settings = settings
        self._keeping = keeping
        self._ledger = ledger
        self._secrets = secrets_of(settings.endpoint)

    async def merge(self, intent: Intent, batch: Batch | None, path: Path | None) -> list[Answer | Failure]:
        """How every request ended, in the order of the intent; all that was answered is kept. Raises OutputError.

        Without a path the results are gone: each may have been paid. Merging the same results again, after a kill,
        lists no answer a second time: it is kept under the same name.
        """
        results: Iterator[Result] = (
            gone(intent)
            if path is None
            else results_in(path, intent, base_url=self._settings.endpoint.base_url, secrets=self._secrets)
        )
        milliseconds = min(max(round(((batch and batch.seconds) or 0.0) * 1000), 0), MOST)
        ends: dict[int, Answer | Failure] = {}
        while some := list(islice(results, AT_ONCE)):
            merged = await asyncio.gather(*(self._merged(intent, result, milliseconds) for result in some))
            ends.update(zip((result.place for result in some), merged, strict=True))
        return [ends[place] for place in range(len(intent.asked))]

    async def _merged(self, intent: Intent, result: Result, milliseconds: int) -> Answer | Failure:
        asked = intent.asked[result.place]
        if isinstance(result.end, Failure):
            self._ledger.batched(_about(asked, intent)).failed(result.end)
            return result.end
        answer, error = self.pricer.answer(result.end, asked, request_id=result.message_id, latency_ms=milliseconds)
        kept = await self._keeping.found(asked.key)
        if kept is not None and result.message_id is not None and kept.request_id == result.message_id:
            return kept
        call = self._ledger.batched(_about(asked, intent))
        await self._keeping.keep(asked.key, Answered(answer, call, error), journal_first=True)
        return answer


def _about(asked: Asked, intent: Intent) -> dict[str, Any]:
    """What `calls` says of a request beside its end."""
    return {
        "image": asked.uri,
        "page": asked.page,
        "sent_sha256": asked.sha256,
        "attempt": asked.attempt,
        "step": asked.step,
        "model": asked.model,
        "max_tokens": asked.max_tokens,
        "started_at": intent.written_at,
    }
