"""What a second reading is worth, by labels: how many rows it flags, and how many are right of those it does not."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.scoring.scores import Sheet
from tasks.scoring.statistics import interval


@dataclass(frozen=True)
class Calibration:
    """Of good answers that were read twice; a row is right where every cell that has a label is."""

    rows: int
    flagged: int
    right: int
    """Right ones of those not flagged."""
    wrong: int
    caught: int
    """Wrong ones that were flagged."""

    @property
    def described(self) -> dict[str, Any]:
        """For `--json`: shares, and the 95 % interval of what is right without review."""
        trusted = self.rows - self.flagged
        low, high = interval(np.array([1.0] * self.right + [0.0] * (trusted - self.right)))
        return {
            "rows": self.rows,
            "flagged": self.flagged / self.rows,
            "right": self.right / trusted if trusted else None,
            "low": round(low, 6),
            "high": round(high, 6),
            "errors_caught": self.caught / self.wrong if self.wrong else None,
        }


def calibration(sheet: Sheet) -> Calibration | None:
    """None where no row was read twice."""
    told = [
        (bool(row["needs_review"]), not total.wrong)
        for row, total in zip(sheet.rows, sheet.totals, strict=True)
        if row is not None and total is not None and row["status"] == "ok" and row.get("needs_review") is not None
    ]
    if not told:
        return None
    return Calibration(
        rows=len(told),
        flagged=sum(flagged for flagged, _ in told),
        right=sum(right and not flagged for flagged, right in told),
        wrong=sum(not right for _, right in told),
        caught=sum(flagged and not right for flagged, right in told),
    )
