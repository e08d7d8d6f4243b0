"""Two values are the same after dates, numbers and white space are normalised, and nothing else."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.scoring.cells import cheapest_pairs
from tasks.scoring.values import canonical, date_in, similarity
from tests.runs import examples


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("9.00", Decimal("9.000000000")),
        ("1,234.50", 1234.5),
        ("12,50", "12.5"),
        (7, "7"),
        ("2026-05-09", date(2026, 5, 9)),
        ("9 May 2026", "2026-05-09"),
        ("05 MAR 2018", date(2018, 3, 5)),
        ("Mar 12, 2026", "2026/03/12"),
        ("25/12/2018", "2018-12-25"),
        (datetime(2026, 5, 9), date(2026, 5, 9)),  # noqa: DTZ001  # as pandas keeps dates
        (datetime(2026, 5, 9, 13, tzinfo=UTC), "2026-05-09T13:00:00+00:00"),
        ("BLUE\n  HERON ", "BLUE HERON"),
        ("", None),
        (float("nan"), None),
        (True, "true"),
        ({"b": "1.0", "a": None}, {"a": "", "b": 1}),
    ],
)
def test_the_same(first: Any, second: Any) -> None:
    assert canonical(first) == canonical(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Blue Heron", "BLUE HERON"),
        ("007", "7"),  # a number of a document is no number
        ("9.00", "RM 9.00"),
        ("3/4/2026", "2026-04-03"),  # which of the two comes first, nobody knows
        (True, 1),
        ("café", "cafe"),
        (None, 0),
    ],
)
def test_not_the_same(first: Any, second: Any) -> None:
    assert canonical(first) != canonical(second)


def test_dates_in_figures_are_read_as_they_tell_or_are_told() -> None:
    assert date_in("13/3/2017") == date_in("3/13/2017") == date(2017, 3, 13)
    assert date_in("4/4/17") == date(2017, 4, 4)
    assert date_in("12/03/18") is None
    assert date_in("12/03/18", day_first=True) == date(2018, 3, 12)
    assert date_in("12/03/18", day_first=False) == date(2018, 12, 3)
    assert date_in("31/02/2018") is None


def test_texts_are_alike_by_the_share_of_letters_to_change() -> None:
    assert similarity("KOPI", "KOPI") == 1
    assert similarity("KOPI", "KOPT") == 0.75
    assert similarity("KOPI", None) == 0


@settings(max_examples=examples(60))
@given(st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_pairs_cost_the_least_of_all(rows: int, columns: int, chance: Any) -> None:
    from itertools import permutations

    costs = np.array([[chance.choice([0, 1, 2, 3.5]) for _ in range(columns)] for _ in range(rows)])
    pairs = cheapest_pairs(costs)
    assert len(pairs) == min(rows, columns) == len({row for row, _ in pairs}) == len({column for _, column in pairs})
    wide = costs if rows <= columns else costs.T
    best = min(
        sum(wide[row, column] for row, column in enumerate(order))
        for order in permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert sum(costs[row, column] for row, column in pairs) == pytest.approx(best)


def test_no_pairs_where_a_side_is_empty() -> None:
    assert cheapest_pairs(np.zeros((0, 3))) == [] == cheapest_pairs(np.zeros((3, 0)))
