"""What tests of the asking side share: pages, endpoints, an engine on the simulator, and places to keep answers."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from config.endpoints import Endpoint, endpoint
from config.models import model_facts
from config.prices import Price, prices_of
from tasks.asking.calls import CallLedger
from tasks.asking.engine import Engine
from tasks.asking.halting import Halt
from tasks.asking.journal import LocalJournal
from tasks.asking.pages import EngineSettings, Outcome, Page
from tasks.asking.question import Question, Step
from tasks.types import PreparedImage
from tests.simulator_requests import picture

MODEL = "claude-haiku-5-5"
CENT = Decimal("0.01")


class JsonStore:
    """Answers as JSON files in a folder."""

    durable = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def get(self, key: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self.folder / key).read_text())
        except (FileNotFoundError, ValueError):  # none, or torn by a kill
            return None
        return record

    async def put(self, key: str, record: dict[str, Any]) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))

    async def set_aside(self, key: str, why: str) -> None:
        (self.folder / key).rename(self.folder / f"{key}.{why.replace(' ', '-')}")

    def sync(self) -> None:
        """They are tests' own."""

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.rglob("*")) if path.is_file()]


def prepared(number: int = 0, *, page: int = 1) -> PreparedImage:
    """A small PNG, another for each number."""
    data = picture(number)
    return PreparedImage(page, data, "image/png", hashlib.sha256(data).hexdigest(), 64, 48, "PNG", 64, 48)


def page(number: int, uri: str | None = None) -> Page:
    return Page(uri or f"images/{number:05}.png", prepared(number))


def pages(count: int, *, start: int = 0) -> list[Page]:
    return [page(number) for number in range(start, start + count)]


def pages_again(count: int, *, start: int = 0) -> list[Page]:
    """Pages that can be prepared once more."""
    return [replace(page(number), again=partial(prepared, number)) for number in range(start, start + count)]


def question(prompt: str = "What is this?", *, model: str = MODEL, **more: Any) -> Question:
    facts = model_facts(model)
    effort = "low" if facts.effort else None
    return Question("simulator", facts, model, prompt, **{"room": 1024, "effort": effort, **more})


def steps(*questions: Question) -> tuple[Step, ...]:
    return tuple(Step(number, asked) for number, asked in enumerate(questions or (question(),)))


def at(url: str) -> Endpoint:
    """The simulator at this address."""
    return replace(endpoint("simulator"), base_url=url)


class Asked:
    """An engine under way, and what it left behind."""

    def __init__(self, engine: Any, ledger: CallLedger, store: Any, journal: LocalJournal) -> None:
        self.engine = engine
        self.store = store
        self.journal = journal.path
        self._ledger = ledger
        self._calls: list[dict[str, Any]] = []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Rows of the ledger so far."""
        self._calls += self._ledger.drain()
        return self._calls

    @property
    def halt(self) -> Halt:
        """Why it stopped, which it has to have done."""
        halt: Halt | None = self.engine.halt
        assert halt is not None
        return halt

    @property
    def cost(self) -> Decimal:
        return sum((call["cost_usd"] for call in self.calls), Decimal(0))

    def ask(self, some: list[Page], *, attempts: int) -> list[Outcome]:
        """The outcome of every page."""
        outcomes: list[Outcome] = self.engine.submit(some, attempts=attempts).result()
        return outcomes

    def outcomes_of(self, name: str) -> int:
        return sum(call["outcome"] == name for call in self.calls)


@contextmanager
def asking(url: str, folder: Path, store: Any = None, **settings: Any) -> Iterator[Asked]:
    """An engine on the simulator at `url` that keeps answers and its journal under `folder`."""
    run_id = settings.pop("run_id", "20261123T000000Z-test")
    settings = {"endpoint": at(url), "steps": steps(), "concurrency": 8, "timeout": 20.0, **settings}
    store = store or JsonStore(folder / "kept")
    claims = settings.pop("claims", None)
    journal = LocalJournal(str(folder / "output"), "job", run_id)
    ledger = CallLedger(journal, endpoint="simulator", preset="ocr")
    with Engine(EngineSettings(run_id=run_id, **settings), store, ledger, claims) as engine:
        yield Asked(engine, ledger, store, journal)
    journal.close()


def prices(model: str = MODEL) -> tuple[Price, ...]:
    """What the simulator's answers are billed at."""
    return prices_of("anthropic", model)


def statuses(outcomes: list[Any]) -> Counter[str]:
    """How many pages ended in which way."""
    return Counter(outcome.status for outcome in outcomes)
