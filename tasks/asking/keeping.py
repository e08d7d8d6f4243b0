"""Kept answers: what counts as one, and keeping one so that neither a kill nor a failing disk loses it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tasks.asking.answer import Answer
from tasks.asking.caller import Answered
from tasks.asking.halting import Halt, Halted, Halting
from tasks.asking.pages import AnswerStore, EngineSettings
from tasks.asking.question import Question
from tasks.errors import OutputError

T = TypeVar("T")

STORAGE_RETRIES_S = (0.2, 1.0)


class Keeping:
    """The answer store of one run, with its journal behind it. Lives on one event loop."""

    def __init__(self, settings: EngineSettings, store: AnswerStore, halting: Halting) -> None:
        self._settings = settings
        self._store = store
        self._halting = halting

    def stop(self, trouble: str) -> None:
        """Pay for nothing more."""
        error = OutputError(f"{trouble}, then run the same command again.")
        self._halting.halt(Halt.stopped(error))

    async def keep(self, key: str, answered: Answered) -> None:
        """Keep the answer in the journal, so that it survives whatever happens, and then in the store.

        Whatever is kept has its row in `calls`. Raises OutputError if the journal cannot be written.
        """
        record = answered.answer.to_record()
        try:
            try:
                await answered.kept(key)
            except OutputError:
                await self._put(key, answered, record)
                raise
            await self._put(key, answered, record)
        except asyncio.CancelledError:  # nobody waits any longer for a disk that hangs
            answered.call.only_in_journal()
            raise

    async def _put(self, key: str, answered: Answered, record: dict[str, Any]) -> None:
        store = self._store
        try:
            await (patiently(lambda: store.put(key, record)) if store.durable else store.put(key, record))
        except Exception as error:  # noqa: BLE001  # whatever the storage raises: pay for nothing more
            answered.call.only_in_journal()
            self.stop(f"An answer could not be kept ({reason_of(error)}). Make room or give access")

    async def keep_again(self, key: str, answer: Answer) -> None:
        """Keep an answer that an earlier run has listed and paid for, unless it did so itself."""
        kept = await self.found(key)
        if kept is not None and kept.request_id == answer.request_id:
            return
        try:
            await patiently(lambda: self._store.put(key, answer.to_record()))
        except Exception as error:  # noqa: BLE001  # whatever the storage raises: pay for nothing more
            self.stop(f"An answer could not be kept ({reason_of(error)}). Make room or give access")
            raise Halted from None

    async def kept(self, question: Question, key: str) -> Answer | None:
        """The kept answer to a question; None where there is none that serves. Halted if that cannot be told."""
        answer = await self.found(key)
        if answer is None or (self._settings.refresh and answer.run_id != self._settings.run_id):
            return None
        return None if answer.truncated and answer.max_tokens < question.max_tokens else answer

    async def found(self, key: str) -> Answer | None:
        """The answer under this key, whether it serves or not. Halted if that cannot be told."""
        try:
            record = await patiently(lambda: self._store.get(key))
        except Exception as error:  # noqa: BLE001  # not a miss: the answer may be there, and would be paid for twice
            self.stop(f"Kept answers cannot be read ({reason_of(error)}). Give access")
            raise Halted from None
        if record is None:
            return None
        try:
            return Answer.from_record(record)
        except (KeyError, TypeError, ValueError, ArithmeticError):  # one of the first release, without a checksum
            await self._store.set_aside(key, "it is no answer")
            return None


async def patiently(storage: Callable[[], Awaitable[T]]) -> T:
    """The same again a little later when the storage has a hiccup; its last error if it does not pass."""
    for delay in STORAGE_RETRIES_S:
        try:
            return await storage()
        except TimeoutError:  # a storage that hangs
            raise
        except Exception:  # noqa: BLE001  # each storage has errors of its own
            await asyncio.sleep(delay)
    return await storage()


def reason_of(error: Exception) -> str:
    """A storage's error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
