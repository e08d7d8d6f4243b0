"""What a run may still spend: the least that its own cap and the cap of the day leave."""

from dataclasses import dataclass
from decimal import Decimal

from tasks.billing.bill import spent_by_attempts, spent_today
from tasks.planning.plan import Plan

# What a person does about a cap that is reached, by the job's field.
REMEDIES = {
    "max_cost": "Raise --max-cost",
    "max_cost_per_day": "Raise max_cost_per_day, or wait until tomorrow (UTC)",
}


@dataclass(frozen=True)
class Cap:
    """The job's cap that would be reached first."""

    field: str
    """Which of the job's fields says it."""
    dollars: Decimal
    """What it leaves, in US dollars; 0 for a shard, which is granted its share later."""

    @property
    def remedy(self) -> str:
        """What a person does about it, as the beginning of a sentence."""
        return REMEDIES[self.field]


def cap_of(plan: Plan) -> Cap | None:
    """The cap that would be reached first; None where the job has none. Raises OutputError.

    A cap is of the whole flow run: Retry or Resume in Prefect goes on under it. Runs of one job take turns, so that
    what the tables say was spent is all that was.
    """
    job, left = plan.job, dict[str, Decimal]()
    if job.max_cost is not None:
        left["max_cost"] = job.max_cost - spent_so_far(plan)
    if job.max_cost_per_day is not None:
        today = (spent_today(plan.output, name) for name in plan.names)
        left["max_cost_per_day"] = job.max_cost_per_day - sum(today, Decimal(0))
    if not left:
        return None
    field = min(left, key=left.__getitem__)
    return Cap(field, Decimal(0) if plan.is_shard else max(left[field], Decimal(0)))


def spent_so_far(plan: Plan) -> Decimal:
    """US dollars that all runs of this flow run have spent, by the tables."""
    spent = (spent_by_attempts(plan.output, name, plan.flow_run) for name in plan.names if plan.flow_run)
    return sum(spent, Decimal(0))
