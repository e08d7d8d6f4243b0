"""The values that pass between a run and its engine."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

from config.endpoints import Endpoint
from tasks.asking.answer import Answer, FitsSchema
from tasks.asking.failures import Failure
from tasks.asking.halting import ALIKE_FAILURES, ENDED_EARLY, Halt
from tasks.asking.question import Question, Step
from tasks.errors import Signal
from tasks.types import PreparedImage


class AnswerStore(Protocol):
    """Where answers are kept."""

    durable: bool
    """Whether a record that was put survives a power loss at once."""

    async def get(self, key: str) -> dict[str, Any] | None:
        """The record, or None."""

    async def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep the record at once; OSError or the storage's own error if that fails."""

    async def set_aside(self, key: str, why: str) -> None:
        """Move a record that is no answer out of the way, and say so."""

    def sync(self) -> None:
        """Make every record that was put survive a power loss. Raises OSError."""


# A request of a batch in `calls`, whose `started_at` names the batch: image, page, step and attempt.
BatchRequest = tuple[str, int, int, int]


@dataclass(frozen=True)
class BatchSettings:
    """How Message Batches are used, where they are."""

    log: str  # where it is written down what was submitted: a folder, or a prefix on S3
    folder: Path  # for results while they are read
    mode: Literal["online", "batch", "auto"] = "batch"  # online: only what was submitted before is collected
    no_wait: bool = False
    deadline: float | None = None  # seconds from the start of the run within which all must be answered, for `auto`
    most_bytes: int = 32_000_000  # of one batch's body
    model_known: bool = True
    absent: float = 60.0  # seconds in which a batch that was perhaps made is listed, if it was
    ended_requests: Callable[[datetime, str], Mapping[BatchRequest, str]] = lambda _written_at, _run_id: {}
    """Of a batch, by when its intent was written and by which run: the requests whose end `calls` lists, and by which
    run. Whoever took in its results may have been killed. Raises OutputError."""


@dataclass(frozen=True)
class EngineSettings:
    """What the engine needs to know of the job."""

    run_id: str
    endpoint: Endpoint
    steps: tuple[Step, ...]
    schema: FitsSchema | None = None
    concurrency: int = 50
    per_second: float | None = None
    timeout: float = 180.0
    patience: float = 900.0  # seconds of nothing but 429 and 529 before the run stops
    max_cost: Decimal | None = None
    cap_remedy: str = "Raise --max-cost"
    refresh: bool = False
    one_first: bool = False
    batches: BatchSettings | None = None
    second: tuple[Step, ...] = ()
    """For each step what reads its good answer's image a second time; none where nothing is read twice."""

    reads_again: Callable[["Page", "Outcome"], bool] = lambda _page, _outcome: True
    """Whether a good answer's image is to be read a second time."""

    @property
    def questions(self) -> tuple[Question, ...]:
        """All that may be asked."""
        return tuple(step.question for step in (*self.steps, *self.second))


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request ended in its batch without an answer or a failure of its own."""

    where: str | None = None
    """The batch, where it goes on in one that this run does not wait for; else it may be asked again."""


End = Answer | Failure | NoAnswer  # of a request in a Message Batch


@dataclass(eq=False, slots=True)
class Wait:
    """A page's wait for the end of its request in a Message Batch: all that a waiting page takes beside itself."""

    key: bytes
    """Names the request (`tasks/asking/batches/intents.py`)."""
    end: End | None = None
    """What came of it, until that is taken."""
    worst: Decimal | None = None
    """What is set aside for it, in US dollars; None where an earlier run has asked."""
    failures: int = 0
    """Of this request, over all batches that it was in."""
    over: bool = False
    """Whether nothing more will come."""
    shared: bool = False
    """Whether another page waits for it too."""


class Later(Signal):
    """A question waits in a Message Batch, or for one: whoever asked comes again once there is an end."""

    def __init__(self, wait: Wait) -> None:
        super().__init__()
        self.wait = wait


@dataclass(slots=True)
class Page:
    """One prepared page on its way through the engine; `spent` and `attempts` add up over retries of its chunk."""

    uri: str
    image: PreparedImage
    attempts: int = 0
    attempts_at: Counter[int] = field(default_factory=Counter)  # the same by step
    max_failures: int = 1
    spent: Decimal = Decimal(0)
    useless_answers: int = 0
    given_up: Failure | None = None  # why it is not asked about again in this run, though nothing was decided
    outcome: "Outcome | None" = None  # so far
    again: Callable[[], PreparedImage] | None = None  # prepares it once more, for its bytes are let go in a batch
    wait: Wait | None = None  # for the end of its own request

    @property
    def place(self) -> tuple[str, int]:
        """Its file's URI, and its number there."""
        return self.uri, self.image.page

    def may_go_on(self, wait: Wait) -> bool:
        """Whether this page, which waits for an end, may ask again; one that shares it when its owner is done."""
        return wait.over or (wait is self.wait and wait.end is not None)

    def drop_bytes(self) -> None:
        """Free the image's bytes once they are not needed any more."""
        self.image = replace(self.image, data=b"")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for one page: the status of its row, and the answer if one was received."""

    status: str
    step: Step
    answer: Answer | None = None
    cached: bool = False
    duplicate_of: str | None = None
    error_code: str | None = None
    error: str | None = None
    given_up: bool = False
    second: "Outcome | None" = None  # of the second reading of a good answer's image

    @property
    def may_be_asked_again(self) -> bool:
        """Whether another call of this run may help."""
        passing = self.status == "unavailable" and not self.given_up
        return passing or (self.second is not None and self.second.may_be_asked_again)


WAITING = "waiting"  # error code of what is in a Message Batch that the run does not wait for


def unasked(step: Step, halt: Halt | None) -> Outcome:
    """Of a page that nobody was asked about, because the run was halted or is over."""
    halt = halt or ENDED_EARLY
    return Outcome("unasked", step, error_code=halt.kind, error=halt.message)


@dataclass(slots=True)
class Progress:
    """Counters for whoever watches."""

    done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.done += 1
        self.statuses[outcome.status] += 1

    def raises_doubt(self, last: Outcome) -> bool:
        """Whether the first ones have all failed as the last one did, so that the question itself may be wrong."""
        all_alike = self.statuses[last.status] == self.done == ALIKE_FAILURES
        return all_alike and not last.cached and last.status in ("invalid", "truncated", "rejected")
