"""The cheapest variant that holds, and why, in one sentence that claims no more than the images show."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from tasks.scoring.statistics import MOST_LABELS, Difference, Scores, loss
from tasks.text import counted


@dataclass(frozen=True)
class Contestant:
    """What the choice knows of a variant: its name for people, a score an image (NaN: none), dollars per 1,000."""

    name: str
    scores: Scores
    cost: Decimal | None

    @property
    def mean(self) -> float:
        """The mean score; below every other where no image has one."""
        return float(np.nanmean(self.scores)) if not np.isnan(self.scores).all() else -1.0

    @property
    def price(self) -> Decimal:
        """For comparing: a variant without a known price is the dearest."""
        return Decimal("Infinity") if self.cost is None else self.cost


@dataclass(frozen=True)
class Choice:
    """The position of the best variant, what each loses against the highest score, and why."""

    best: int
    highest: int
    losses: tuple[Difference, ...]
    why: str


def choose(contestants: Sequence[Contestant], tolerance: float = 0.0) -> Choice:
    """The cheapest variant whose loss against the highest score is not measurable, or less than `tolerance`.

    One that has no image in common with the highest score is not chosen: nothing is known of it.
    """
    order = range(len(contestants))
    highest = max(order, key=lambda at: (contestants[at].mean, -contestants[at].price))
    losses = tuple(loss(contestants[highest].scores, one.scores) for one in contestants)
    holding = [
        at
        for at in order
        if at == highest or (losses[at].images and (not losses[at].is_measurable or losses[at].mean < tolerance))
    ]
    best = min(holding, key=lambda at: (contestants[at].price, -contestants[at].mean))
    choice = Choice(best, highest, losses, "")
    return Choice(best, highest, losses, _why(choice, contestants, tolerance))


def _why(choice: Choice, contestants: Sequence[Contestant], tolerance: float) -> str:
    best = contestants[choice.best]
    if best.mean < 0:
        return "No image has a score yet, so nothing can be told."
    images = counted(choice.losses[choice.best].images, "image")
    if len(contestants) == 1:
        return f"{best.name} is the only variant; it scores {best.mean:.3f} over {images}."
    if choice.best == choice.highest:
        return _nobody_below(choice, contestants, images)
    lost, top = choice.losses[choice.best], contestants[choice.highest].name
    price = f"{best.name} is the cheapest that holds{_price(best)}"
    if lost.is_measurable:
        return f"{price}: {_points(lost)} against {top}, less than the tolerance of {tolerance:g}."
    if lost.mean == 0:
        return f"{price}: over {images} it scores the same as {top}."
    return f"{price}: over {images} its score cannot be told apart from that of {top} ({_points(lost)}){_labels(lost)}."


def _nobody_below(choice: Choice, contestants: Sequence[Contestant], images: str) -> str:
    """Where the highest score is chosen: what is cheaper loses measurably, or nothing is."""
    best = contestants[choice.best]
    cheaper = [at for at, one in enumerate(contestants) if one.price < best.price]
    if cheaper:
        near = min(cheaper, key=lambda at: choice.losses[at].mean)
        near_one = f"{contestants[near].name} {_points(choice.losses[near])}"
        others = "what is cheaper loses measurably" if len(cheaper) == 1 else "all that is cheaper loses measurably"
        return f"{best.name} is the cheapest that holds{_price(best)}: {others}, {near_one}."
    open_ones = [one for at, one in enumerate(choice.losses) if at != choice.best and not one.is_measurable]
    if not open_ones:
        return f"{best.name} is the cheapest{_price(best)}, and every other scores measurably less over {images}."
    return f"{best.name} is the cheapest{_price(best)}, and no other scores measurably more over {images}."


def _points(lost: Difference) -> str:
    return f"a loss of {lost.mean:.3f}, 95 % interval {lost.low:.3f} to {lost.high:.3f}"


def _labels(lost: Difference) -> str:
    if lost.labels_needed is None:
        return ""
    if lost.labels_needed >= MOST_LABELS:
        return f"; more than {MOST_LABELS:,} labels would have to settle it"
    return f"; about {lost.labels_needed:,} labels would settle it"


def _price(one: Contestant) -> str:
    return "" if one.cost is None else f" (${one.cost:.2f} per 1,000 images)"
