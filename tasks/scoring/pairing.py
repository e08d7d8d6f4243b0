"""Which item of one list goes with which of another, so that all pairs together cost the least.

The Hungarian algorithm with potentials (Kuhn 1955, Munkres 1957; in the O(n^2 m) form of Jonker and Volgenant 1987).
SciPy has it too, in a package of 100 MB of which nothing else would be used.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]


def cheapest_pairs(costs: Costs) -> list[tuple[int, int]]:
    """Pairs of a row and a column, as many as the shorter side has, whose costs add up to the least; rows ascending."""
    if costs.size == 0:
        return []
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in cheapest_pairs(costs.T))
    rows, columns = costs.shape
    of_column: Any = np.zeros(columns + 1, np.int64)  # the row that holds it; 0 for none, rows count from 1
    row_potential, column_potential = np.zeros(rows + 1), np.zeros(columns + 1)
    for row in range(1, rows + 1):
        of_column[0], column = row, 0
        nearest, came_from = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.int64)
        used = np.zeros(columns + 1, np.bool_)
        while of_column[column]:  # until the path ends at a column that nobody holds
            used[column] = True
            holder = of_column[column]
            reduced = costs[holder - 1] - row_potential[holder] - column_potential[1:]
            closer = ~used[1:] & (reduced < nearest[1:])
            nearest[1:][closer] = reduced[closer]
            came_from[1:][closer] = column
            following = int(np.where(used[1:], np.inf, nearest[1:]).argmin()) + 1
            step = nearest[following]
            row_potential[of_column[used]] += step
            column_potential[used] -= step
            nearest[~used] -= step
            column = following
        while column:
            before = came_from[column]
            of_column[column], column = of_column[before], int(before)
    return sorted((int(row) - 1, column) for column, row in enumerate(of_column[1:]) if row)
