"""What a shard tells of itself every few seconds, and what it is told: values of two small JSON files."""

from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from tasks.asking.halting import Halt
from tasks.asking.limits import Grant
from tasks.orchestration.summary import Figures

NOTHING_YET = Grant(0, None, None, last=False)
WRONG = (KeyError, TypeError, ValueError, ArithmeticError)


@dataclass(frozen=True)
class Holding:
    """What a shard has of the run's limits: what it was granted, and what of an earlier, larger grant is still out."""

    concurrency: int = 0
    per_second: float = 0.0
    max_cost: Decimal = Decimal(0)
    used: Decimal = Decimal(0)
    """Dollars paid or set aside, by all its processes."""
    short: bool = False
    """Whether it stands still for want of dollars."""


@dataclass(frozen=True)
class Report:
    """How far a shard is."""

    attempt: int
    host: str = ""
    figures: Figures = field(default_factory=Figures)
    bill: list[Any] = field(default_factory=list)
    prepared: int = 0
    asked: int = 0
    in_flight: int = 0
    spent: Decimal = Decimal(0)
    holding: Holding = Holding()
    grant: Grant = NOTHING_YET
    """The last one that it has heard of."""
    ended: str | None = None
    """The status it ended with; None while it is at work."""
    message: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        """For its file."""
        facts = {**asdict(self), "figures": self.figures.json, "spent": str(self.spent)}
        return {**facts, "holding": {**facts["holding"], **_texts(self.holding)}, "grant": _told(self.grant)}

    @classmethod
    def read(cls, facts: dict[str, Any] | None) -> "Report | None":
        """As its file has it; None where there is none, or none of ours."""
        try:
            holding = dict((facts or {})["holding"])
            holding |= {name: Decimal(holding[name]) for name in ("max_cost", "used")}
            figures = Figures.read((facts or {})["figures"])
            values = {**(facts or {}), "figures": figures, "holding": Holding(**holding)}
            values["grant"] = _heard((facts or {})["grant"])
            return cls(**{**values, "spent": Decimal(values["spent"])})
        except WRONG:
            return None


def same_pace(one: Grant, other: Grant) -> bool:
    """Whether both are as many places and calls a second; dollars move with every call."""
    return (one.concurrency, one.per_second) == (other.concurrency, other.per_second)


def _told(grant: Grant) -> dict[str, Any]:
    return {**asdict(grant), "max_cost": None if grant.max_cost is None else str(grant.max_cost)}


def _heard(facts: dict[str, Any]) -> Grant:
    cap = facts["max_cost"]
    return Grant(**{**facts, "max_cost": None if cap is None else Decimal(cap)})


def _texts(holding: Holding) -> dict[str, str]:
    return {"max_cost": str(holding.max_cost), "used": str(holding.used)}


@dataclass(frozen=True)
class Share:
    """What a shard may use of the run's limits, and whether it is to end."""

    attempt: int = 0
    """The process that is meant to be at work, as the parent has started it."""
    grant: Grant = NOTHING_YET
    halt: Halt | None = None

    @property
    def json(self) -> dict[str, Any]:
        """For its file."""
        halt = self.halt and {
            "kind": self.halt.kind,
            "message": self.halt.message,
            "patience": self.halt.patience,
        }
        return {"attempt": self.attempt, "grant": _told(self.grant), "halt": halt}

    @classmethod
    def read(cls, facts: dict[str, Any] | None) -> "Share | None":
        """As its file has it; None where there is none, or none of ours."""
        try:
            halt, grant = (facts or {})["halt"], _heard((facts or {})["grant"])
            return cls(int((facts or {})["attempt"]), grant, Halt(**halt) if halt else None)
        except WRONG:
            return None
