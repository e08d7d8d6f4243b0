"""Who calls the flow in this process, and what they bring: a plan made beforehand, an observer, a way to stop."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tasks.types import Source

if TYPE_CHECKING:
    from tasks.asking.halting import Halt
    from tasks.orchestration.context import RunContext
    from tasks.orchestration.stopping import Stop
    from tasks.planning.comparing import Comparison, Variant
    from tasks.planning.plan import Plan


@dataclass(frozen=True, eq=False)
class Todo:
    """What is left to ask about, once what earlier runs finished is recorded."""

    images: Sequence[Source]
    done_before: int
    estimate: Decimal | None
    """Dollars; None where no size is known."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    summary: dict[str, Any]
    failures: Sequence[dict[str, Any]]
    halt: "Halt | None"


class Observer:
    """Told of a run as it goes on, in the flow's thread; a subclass says what it does with it."""

    def note(self, text: str) -> None:
        """What happens before there is a run."""

    def variant(self, comparison: "Comparison", variant: "Variant") -> None:
        """The next run is of this variant of a comparison."""

    def opened(self) -> None:
        """The run is open: nothing was asked yet."""

    def watch(self, run: "RunContext", todo: Todo) -> AbstractContextManager[object]:  # noqa: ARG002  # for subclasses
        """Around all preparing and asking."""
        return nullcontext()

    def ended(self, ended: Ended) -> None:
        """All was asked, and the tables are written. What follows are courtesies of Prefect's."""


@dataclass(frozen=True)
class Caller:
    """What the flow takes from whoever calls it in this process."""

    plan: "Plan | None" = None
    observer: Observer = field(default_factory=Observer)
    stop: "Stop | None" = None
    comparison: "Comparison | None" = None


_caller: ContextVar[Caller | None] = ContextVar("visionflow_caller", default=None)


def caller() -> Caller:
    """The flow's caller; one that brings nothing where Prefect itself started the run."""
    return _caller.get() or Caller()


@contextmanager
def called_by(who: Caller) -> Iterator[None]:
    """Within, the flow is called by `who`."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)
