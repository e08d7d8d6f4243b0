"""Money that a person has to allow: a run of a deployment that its cap has paused waits for a new cap, and goes on.

The run has ended before anybody is asked: its tables are written, its turn and its memory given back. So the answer may
come in a second, in a week or never, and the process or the server may go away meanwhile. What goes on is another run
of the same flow run, as Retry makes one, under a cap that counts what all of them have spent. It learns the cap from
the answers, which Prefect's server keeps with the flow run.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger
from prefect.client.orchestration import get_client

from config.job import Job
from config.settings import pause_minutes
from tasks.asking.halting import Halt
from tasks.billing.pricing import usd
from tasks.orchestration import events
from tasks.orchestration.ending import ENDS
from tasks.orchestration.pausing import Inquiry, NewCap, answers_of, with_a_person
from tasks.planning.caps import cap_of, spent_so_far
from tasks.planning.estimating import expected_cost
from tasks.planning.given import checked_setting
from tasks.planning.plan import Plan
from tasks.text import as_markdown, counted

if TYPE_CHECKING:
    from tasks.orchestration.context import RunContext
    from tasks.orchestration.invoker import Stop, Todo


def allowed(job: Job) -> Job:
    """The job under the cap that a person has allowed this flow run last, in an earlier attempt."""
    checked_setting(pause_minutes)  # a setting that is none stops the run now, and not at its first pause
    flow_run = with_a_person()
    if flow_run is None or job.max_cost is None:  # its run_count tells nothing: Resume leaves it as it was
        return job
    with get_client(sync_client=True) as client:
        answers = answers_of(client, flow_run.id)
    return _under(job, answers[-1]) if answers else job


def check_estimate(run: "RunContext", todo: "Todo") -> None:
    """Pause a run of a deployment before its first call if that will probably cost more than it may.

    Once a person has said a cap, the run spends up to that.
    """
    flow_run, cap = with_a_person(), run.engine.settings.max_cost
    if flow_run is None or cap is None or run.plan.is_shard or not todo.images or not _by_own_cap(run.plan):
        return
    estimate = todo.estimate or expected_cost(run.plan, todo.images, on_s3=True)
    if estimate is None or estimate <= cap:
        return
    with get_client(sync_client=True) as client:
        if answers_of(client, flow_run.id):
            return
    run.stop(Halt("paused", f"The estimate of {_about(estimate)} is above the cap of {usd(cap)}: nothing was asked."))


def more_money(run: "RunContext", todo: "Todo", summary: dict[str, Any], stop: "Stop") -> Job | None:
    """The job under a new cap, if the run was paused by its own and a person says one; waits for the answer.

    Raises Prefect's Pause where the run is to be suspended: it goes on in another process, once it is resumed.
    """
    flow_run = with_a_person()
    if flow_run is None or summary["status"] != "paused" or not _by_own_cap(run.plan):
        return None
    spent = spent_so_far(run.plan)
    events.tell_end(summary, ENDS["paused"], waiting=True)
    left = counted(summary["statuses"].get("unasked", 0), "row")
    message = f"{usd(spent)} spent of {usd(run.plan.job.max_cost or 0)}, {left} left to ask: resume with a new cap."
    form = NewCap.with_initial_data(description=_figures(run, todo, summary, spent))
    with get_client(sync_client=True) as client:
        minutes = checked_setting(pause_minutes)
        answer = Inquiry(client, flow_run.id, run.plan.run_id, form, message, stop, minutes).answer()
    log = get_run_logger()
    if answer is None or answer <= spent:
        log.info("No more money was allowed: the run ends as it is.")
        return None
    log.info("A person has allowed %s in all, of which %s are spent.", usd(answer), usd(spent))
    return _under(run.plan.job, answer)


def _by_own_cap(plan: Plan) -> bool:
    """Whether the run's own cap would be reached first, and not the day's."""
    cap = cap_of(plan)
    return cap is not None and cap.field == "max_cost"


def _under(job: Job, cap: Decimal) -> Job:
    return job.model_copy(update={"max_cost": cap})


def _figures(run: "RunContext", todo: "Todo", summary: dict[str, Any], spent: Decimal) -> str:
    """What a person decides by, in Markdown."""
    rows, unasked, cap = summary["rows"], summary["statuses"].get("unasked", 0), run.plan.job.max_cost
    assert cap is not None
    lines = [f"**{as_markdown(run.plan.name)}** has spent **{usd(spent)}** of its cap of {usd(cap)}."]
    lines.append(f"{rows - unasked:,} of {rows:,} rows are done; {unasked:,} are left.")
    if (rest := _rest(run, todo, summary, unasked)) is not None:
        lines.append(f"They cost about {_about(rest)}: **{_about(spent + rest)}** in all.")
    lines.append("Say the new cap for the whole run. No more than what is spent ends the run as it is.")
    if run.plan.simulated:
        lines.append("Simulated: no dollars are spent.")
    return "\n\n".join(lines)


def _rest(run: "RunContext", todo: "Todo", summary: dict[str, Any], unasked: int) -> Decimal | None:
    """About what the rows that are left cost: as those asked in this run did, else by the estimate."""
    asked = summary["rows"] - unasked - summary["cached"] - summary["duplicates"]
    if summary["calls"] and asked > 0 and run.recorder.bill.cost_usd:
        rest: Decimal = run.recorder.bill.cost_usd / asked * unasked
        return rest
    estimate: Decimal | None = todo.estimate or expected_cost(run.plan, todo.images, on_s3=True)
    return estimate


def _about(amount: Decimal) -> str:
    """Dollars to two digits that mean something."""
    digits = max(2, 1 - amount.adjusted()) if amount else 2
    return usd(round(amount, digits))
