"""What may be concluded from so many images: intervals, and paired tests of two variants over the same images.

An image is the unit throughout, for the cells of one are right or wrong together. Shown by tests/scoring/trials.py:
how often the intervals hold what they are for, and how often the right variant is chosen.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]  # one an image

Z95 = 1.959964
ALPHA = 0.05  # two-sided, so that a loss is measurable exactly where its 95 % interval lies above zero
Z_POWER = 0.841621  # of finding what is there four times in five
MOST_CELLS = 20.0  # that an image may count for, however many it has
SUBSETS = 10_000
SIGNS_AT_ONCE = 2_000_000  # signs held at a time
SEED = 20261124  # the same scores always tell the same
MOST_LABELS = 100_000


def interval(scores: Scores) -> tuple[float, float]:
    """The 95 % interval of a mean of scores between 0 and 1, over images.

    Wilson's, with as many trials as would give the variance seen between images. A sample without any error is no
    proof: the variance is taken as if one image more were the very opposite.
    """
    count = len(scores)
    if not count:
        return 0.0, 1.0
    mean = float(scores.mean())
    opposite = 0.0 if mean >= 0.5 else 1.0
    spread = float(np.append(scores, opposite).var())
    centre = (mean * count + opposite) / (count + 1)
    trials = count * min(max(centre * (1 - centre) / spread, 1.0), MOST_CELLS)
    return _wilson(mean, trials)


def _wilson(share: float, trials: float) -> tuple[float, float]:
    """Wilson 1927: the shares that so many trials do not rule out."""
    square = Z95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z95 / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True)
class Difference:
    """How much less one variant scores than another, over images that both have a score for."""

    mean: float
    low: float
    high: float
    p: float
    """How likely a difference as large would be, were there none."""
    images: int
    labels_needed: int | None
    """About as many labelled images would show a loss of this size; None where none was seen."""

    @property
    def is_measurable(self) -> bool:
        """Whether the loss is more than chance explains."""
        return self.mean > 0 and self.p < ALPHA


def loss(best: Scores, other: Scores) -> Difference:
    """What `other` loses against `best`, image by image; images without a score (NaN) in one are left out.

    A paired test: without a loss, each image might as well have differed the other way. With one cell an image this is
    McNemar's exact test. The means of random subsets of the differences are the losses that the test does not tell from
    the one seen (Hartigan 1969, https://doi.org/10.1080/01621459.1969.10501057): interval and test are one.
    """
    differences: Any = best - other
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        return Difference(0.0, -1.0, 1.0, 1.0, 0, None)
    means = _subset_means(differences)
    low, high = np.quantile(means, (ALPHA / 2, 1 - ALPHA / 2))
    side = min((means <= 0).mean(), (means >= 0).mean())
    p = min(float(2 * (side * SUBSETS + 1) / (SUBSETS + 1)), 1.0)
    return Difference(
        float(differences.mean()), float(low), float(high), p, differences.size, _labels_needed(differences)
    )


def _subset_means(differences: Scores) -> Scores:
    """Means of random subsets, in each of which every image is or is not; of the empty one nothing, so zero."""
    chance, count = np.random.default_rng(SEED), len(differences)
    rows = max(1, SIGNS_AT_ONCE // count)
    means: list[Any] = []
    for start in range(0, SUBSETS, rows):
        chosen = chance.integers(0, 2, (min(rows, SUBSETS - start), count), np.int8)
        means.append((chosen @ differences) / np.maximum(chosen.sum(axis=1), 1))
    return np.concatenate(means)


def _labels_needed(differences: Scores) -> int | None:
    mean, spread = float(differences.mean()), float(differences.std())
    if mean <= 0 or spread == 0:
        return None
    needed = ceil(((Z95 + Z_POWER) * spread / mean) ** 2)
    return min(max(needed, len(differences) + 1), MOST_LABELS)
