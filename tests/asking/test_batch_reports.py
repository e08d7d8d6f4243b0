"""What an endpoint says of its Message Batches is not trusted: endless lists, names that are none, lines twice."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tasks.asking.batches import wire
from tasks.asking.batches.intents import Intent, custom_id, new_word
from tasks.asking.batches.merging import results_in
from tasks.asking.batches.packing import Request
from tasks.asking.batches.wire import MessageBatch, Wire
from tasks.asking.client import make_client
from tasks.asking.reply import Received
from tasks.asking.secrets import Secrets
from tasks.errors import AnswerError
from tests.asking import at, pages, steps
from tests.http_servers import Handler, serving

COUNTS = {"request_counts": dict.fromkeys(wire.REQUEST_STATES, 0)}


class Endless(Handler):
    """Lists another new batch on every page."""

    pages = count(1)

    def do_GET(self) -> None:  # http.server's name
        """A page."""
        now = datetime.now(UTC).isoformat()
        batch = {"id": f"msgbatch_{next(self.pages)}", "processing_status": "in_progress", "created_at": now, **COUNTS}
        body = json.dumps({"data": [batch], "has_more": True}).encode()
        self.answer(200, body)


@pytest.fixture
def endless() -> Iterator[str]:
    with serving(Endless) as url:
        yield url


@pytest.mark.parametrize(("name", "bound", "said"), [("MOST_PAGES", 20, "without end"), ("LIST_S", 0.1, "within 0 s")])
def test_a_list_that_never_ends_is_given_up(
    endless: str, monkeypatch: pytest.MonkeyPatch, name: str, bound: float, said: str
) -> None:
    async def listed() -> None:
        async with make_client(at(endless), concurrency=1, timeout=20, streams=True) as client:
            await Wire(client).since(datetime.now(UTC) - timedelta(hours=1))

    monkeypatch.setattr(wire, name, bound)
    with pytest.raises(AnswerError, match=said):
        asyncio.run(listed())


@pytest.mark.parametrize("name", [None, 7, True, "../../v1/models", "", "a\x1b[31m"])
def test_what_is_no_name_names_no_batch(name: object) -> None:
    with pytest.raises(AnswerError):
        MessageBatch.of({"id": name, "processing_status": "ended", "created_at": "2026-11-29T00:00:00Z", **COUNTS})


def test_an_answer_counts_wherever_else_its_request_is_named(tmp_path: Path) -> None:
    word, path = new_word(), tmp_path / "results.jsonl"
    asked = tuple(Request(page, steps()[0]).intended() for page in pages(2))
    message: dict[str, Any] = {"type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    message |= {"content": [{"type": "text", "text": "paid"}], "usage": {"input_tokens": 9, "output_tokens": 1}}
    ends = [{"type": "expired"}, {"type": "succeeded", "message": message}, {"type": "canceled"}]
    lines = [{"custom_id": custom_id(word, place), "result": end} for place in (0, 1) for end in ends[place:]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    intent = Intent(word, datetime.now(UTC), asked)
    results = list(results_in(path, intent, base_url="http://here", secrets=Secrets("")))
    assert [(result.place, type(result.end)) for result in results] == [(0, Received), (1, Received)]
