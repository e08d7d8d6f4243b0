"""Schedules that run: what they need of the packages that are pinned."""

import asyncio
from typing import Any

import pytest
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

SCHEDULES: list[Any] = [
    lambda zone: CronSchedule(cron="0 2 * * *", timezone=zone),
    lambda zone: IntervalSchedule(interval=3600, timezone=zone or "UTC"),  # type: ignore[arg-type]
    lambda zone: RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=2", timezone=zone or "UTC"),
]


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cron", "interval", "rrule"])
def test_prefect_knows_the_next_dates_of_a_schedule(schedule: Any, zone: str | None) -> None:
    """What its scheduler calls in every loop; where that raises, only the server's log says so."""
    assert len(asyncio.run(schedule(zone).get_dates(3))) == 3
