"""An endpoint that lies about batches: nothing goes on for ever, grows without bound or is paid for twice."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tasks.asking.batches.intents import Intent, IntentLog, custom_id, new_word
from tasks.asking.batches.packing import Request
from tasks.asking.batches.polling import Patience, Poller
from tasks.asking.batches.wire import Wire
from tasks.asking.client import make_client
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError, EndpointError
from tests.asking import at, pages, steps
from tests.asking.test_wire import Answer, hostile

QUICK = Patience(poll=0.02, slowest_poll=0.05, late=0.5, absent=0.3)
NOW = datetime.now(UTC).isoformat()


def described(name: str, *, ended: bool = True, requests: int = 2) -> dict[str, Any]:
    """A batch as the API describes it."""
    counts = dict.fromkeys(("processing", "errored", "canceled", "expired"), 0) | {"succeeded": requests}
    state = "ended" if ended else "in_progress"
    return {"id": name, "processing_status": state, "request_counts": counts, "created_at": NOW, "ended_at": NOW}


def at_work(
    answers: Callable[[str], bytes], folder: Path, work: Callable[[Poller, Wire, IntentLog], Awaitable[Any]]
) -> Any:
    """What comes of `work` with an endpoint that answers so, by the path that it is asked."""

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        return 200, {}, answers(request.path)

    async def use(url: str) -> Any:
        async with asyncio.timeout(20), make_client(at(url), concurrency=4, timeout=10, streams=True) as client:
            log = IntentLog(str(folder / "intents"))
            poller = Poller(Wire(client), log, Secrets(""))
            poller.patience = QUICK
            return await work(poller, Wire(client), log)

    with hostile(answer) as url:
        return asyncio.run(use(url))


def intended(log: IntentLog) -> Intent:
    """Two requests that became a batch."""
    intent = log.write(new_word(), [Request(page, steps()[0]).intended() for page in pages(2)])
    return log.named(intent, "msgbatch_1")


def test_another_batch_than_was_asked_about_is_not_collected(tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match="another batch"):
        at_work(
            lambda _path: json.dumps(described("msgbatch_2")).encode(),
            tmp_path,
            lambda _poller, wire, _log: wire.retrieve("msgbatch_1"),
        )


def test_a_batch_that_never_ends_ends_the_run_and_is_found_again(tmp_path: Path) -> None:
    async def work(poller: Poller, _wire: Wire, log: IntentLog) -> None:
        poller.patience = replace(QUICK, longest=0.2)
        await poller.ended(intended(log))

    with pytest.raises(EndpointError, match="has not ended"):
        at_work(lambda _path: json.dumps(described("msgbatch_1", ended=False)).encode(), tmp_path, work)
    assert [intent.batch_id for intent in IntentLog(str(tmp_path / "intents")).open()] == ["msgbatch_1"]


def test_results_that_end_early_are_asked_for_again(tmp_path: Path) -> None:
    """A proxy that is cut off ends its answer in good order: what it did not bring was paid for all the same."""
    lines: list[bytes] = []
    downloads = count(1)

    def results(path: str) -> bytes:
        if path.endswith("/results"):
            return b"".join(lines[: next(downloads)])
        return json.dumps(described("msgbatch_1")).encode()

    async def work(poller: Poller, _wire: Wire, log: IntentLog) -> bytes:
        intent = intended(log)
        lines.extend(json.dumps({"custom_id": custom_id(intent.word, n)}).encode() + b"\n" for n in range(2))
        return (await poller.collect(intent, await poller.ended(intent), tmp_path)).read_bytes()

    assert at_work(results, tmp_path, work) == b"".join(lines)


def test_results_have_no_more_bytes_than_their_requests_may_be_answered_with(tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match="more than 3 MB"):
        at_work(
            lambda _path: b"x" * 4_000_000,
            tmp_path,
            lambda _poller, wire, _log: wire.results("msgbatch_1", tmp_path / "results", 3_000_000),
        )
    assert not list(tmp_path.glob("results*"))
