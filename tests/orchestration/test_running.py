"""A run's own rules: what it may spend, and what its end is called."""

from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from config.job import Job
from tasks.asking.halting import Halt
from tasks.billing import bill
from tasks.billing.bill import spent_today
from tasks.orchestration.assembling import make_context
from tasks.orchestration.context import RunContext
from tasks.orchestration.store import PrefectStore
from tasks.planning.caps import Cap, cap_of
from tasks.planning.plan import make_plan
from tasks.recording.rows import answered_row
from tasks.simulator import Simulator
from tasks.storage.records import records_of
from tests.asking import page
from tests.runs import draw


def opened(tmp_path: Path, **job: Any) -> RunContext:
    """A run of three images at the simulator, not started yet."""
    images = draw(tmp_path / "images", 3) if not (tmp_path / "images").exists() else tmp_path / "images"
    plan = make_plan(str(images), str(tmp_path / "out"), Job(**job))
    return make_context(plan, PrefectStore(records_of(plan.output.uri)))


def ask_one(run: RunContext) -> None:
    """Pay for one answer and record its row, as a chunk would."""
    source, asked = run.plan.listing.images[0], page(0)
    (outcome,) = run.engine.submit([asked], attempts=1).result()
    run.recorder.record([answered_row(source, asked, outcome, run.plan.preset.name)])


@pytest.mark.usefixtures("home")
def test_a_day_has_one_cap_for_all_runs_of_a_job(tmp_path: Path, simulator: Simulator) -> None:
    first = opened(tmp_path, max_cost_per_day="1")
    assert cap_of(first.plan) == Cap("max_cost_per_day", Decimal(1))
    with first.at_work():
        ask_one(first)
    first.finish()
    paid = Decimal(simulator.ledger().cost_usd)
    assert paid > 0
    assert spent_today(first.plan.output, first.plan.name) == paid

    second = opened(tmp_path, max_cost_per_day="1")
    assert cap_of(second.plan) == Cap("max_cost_per_day", 1 - paid)
    less = opened(tmp_path, max_cost_per_day="1", max_cost="0.01")
    assert cap_of(less.plan) == Cap("max_cost", Decimal("0.01"))
    used_up = opened(tmp_path, max_cost_per_day=str(paid), refresh=True)
    with used_up.at_work():
        ask_one(used_up)
    assert (used_up.recorder.status(used_up.halt), used_up.recorder.statuses["unasked"]) == ("paused", 1)
    assert used_up.engine.halt and "max_cost_per_day" in used_up.engine.halt.message
    assert simulator.ledger().billed == 1


@pytest.mark.usefixtures("home", "simulator")
def test_an_interruption_that_came_too_late_to_matter_is_none(tmp_path: Path) -> None:
    run = opened(tmp_path)
    with run.at_work():
        ask_one(run)
        run.stop(Halt("interrupted", "Interrupted (SIGINT)."))
    assert run.recorder.status(run.halt) == "completed"
    assert run.finish()["message"] is None
    early = opened(tmp_path)
    with early.at_work():
        early.recorder.record([early.unasked_row(early.plan.listing.images[0])])
        early.stop(Halt("interrupted", "Interrupted (SIGINT)."))
    assert early.recorder.status(early.halt) == "interrupted"


@pytest.mark.usefixtures("home", "simulator")
def test_a_call_counts_to_the_day_on_which_it_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may go on over midnight."""
    run = opened(tmp_path)
    with run.at_work():
        ask_one(run)
    run.finish()
    paid = run.recorder.bill.cost_usd
    assert paid > 0

    def spent_on(day: datetime) -> Decimal:
        class Then(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return day.astimezone(tz)

        with monkeypatch.context() as patch:
            patch.setattr(bill, "datetime", Then)
            return spent_today(run.plan.output, run.plan.name)

    now = datetime.now(UTC)
    assert (spent_on(now), spent_on(now + timedelta(days=1))) == (paid, Decimal(0))
