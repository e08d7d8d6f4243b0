"""Conclusions: intervals hold what they say, the right variant is chosen, and `why` claims no more than is known."""

from decimal import Decimal

import numpy as np
import pytest

from tasks.scoring.best_variant import Contestant, choose
from tasks.scoring.statistics import MOST_LABELS, interval, loss
from tests.scoring import Rate, run_trials


def of(name: str, usd: str | None, *scores: float) -> Contestant:
    return Contestant(name, np.array(scores), None if usd is None else Decimal(usd))


def test_the_right_variant_is_chosen_and_intervals_hold_the_true_score() -> None:
    """A tenth of the values wrong against two hundredths: the middle one is as good as the dear one.

    100 trials and more: `python -m tests.scoring.trials`.
    """
    variants = [Rate("cheap", 0.1, "0.3"), Rate("middle", 0.02, "1.2"), Rate("dear", 0.02, "6")]
    found = run_trials(variants, {"middle"}, images=60, trials=40, pool=200)
    assert found.right >= 36
    assert min(found.covered.values()) >= 35


def test_a_sample_without_an_error_proves_no_perfection() -> None:
    low, high = interval(np.ones(59))
    assert 0.93 < low < 0.95 and high == 1, "59 without an error certify 95 %, and no more"
    assert interval(np.array([])) == (0, 1)
    assert interval(np.zeros(10))[0] == 0


def test_a_loss_is_measurable_where_its_interval_lies_above_zero() -> None:
    """Image by image, as McNemar's test: five images that differ all one way may be chance, six are not."""
    for differing, measurable in ((5, False), (6, True)):
        other = np.ones(40)
        other[:differing] = 0.5
        lost = loss(np.ones(40), other)
        assert lost.is_measurable is measurable is (lost.low > 0)
        assert lost.mean == pytest.approx(differing / 80)
        assert lost.low <= lost.mean <= lost.high
    assert loss(np.ones(40), other) == lost, "the same scores always tell the same"


def test_images_without_a_score_in_one_variant_are_left_out_of_the_pair() -> None:
    lost = loss(np.array([1, 1, np.nan, 1]), np.array([1, np.nan, 0, 0]))
    assert (lost.images, lost.mean) == (2, 0.5)
    assert loss(np.array([np.nan]), np.array([1.0])).images == 0


def test_the_cheapest_that_holds_is_chosen_and_the_sentence_names_what_it_lost() -> None:
    good = np.ones(100)
    poor = good.copy()
    poor[:30] = 0
    choice = choose([Contestant("poor", poor, Decimal("0.1")), Contestant("good", good, Decimal(1))])
    assert choice.best == 1
    assert choice.why.startswith("good is the cheapest that holds ($1.00 per 1,000 images): what is cheaper loses")
    assert "poor a loss of 0.300, 95 % interval 0.2" in choice.why


def test_no_winner_is_named_inside_the_interval_and_labels_that_would_settle_it_are_counted() -> None:
    cheap = np.array([1.0] * 15 + [0.0])
    choice = choose([Contestant("cheap", cheap, Decimal(1)), Contestant("dear", np.ones(16), Decimal(9))])
    assert choice.best == 0
    assert "over 16 images its score cannot be told apart from that of dear (a loss of 0.062" in choice.why
    needed = choice.losses[0].labels_needed
    assert needed is not None and 100 < needed < 200 and f"about {needed} labels would settle it" in choice.why
    assert "better" not in choice.why and "winner" not in choice.why


def test_a_tolerance_takes_a_measurable_loss_that_is_smaller() -> None:
    cheap = np.array([0.9] * 100)
    contestants = [Contestant("cheap", cheap, Decimal(1)), Contestant("dear", np.ones(100), Decimal(9))]
    assert choose(contestants, 0.05).best == 1
    choice = choose(contestants, 0.15)
    assert choice.best == 0
    assert "a loss of 0.100" in choice.why and "less than the tolerance of 0.15" in choice.why


def test_the_cheapest_where_all_are_alike_and_where_it_is_the_only_one() -> None:
    alike = choose([of("a", "2", 1, 1), of("b", "1", 1, 1)])
    assert alike.best == 1 and "no other scores measurably more" in alike.why
    assert "the only variant" in choose([of("a", "2", 1, 1)]).why
    unasked = of("unasked", "0.1", float("nan"), float("nan"))
    assert choose([unasked, of("a", "2", 1, 1)]).best == 1, "of the cheapest nothing is known"
    assert choose([unasked, unasked]).why == "No image has a score yet, so nothing can be told."
    assert choose([of("no price", None, 1, 1), of("priced", "5", 1, 1)]).best == 1


def test_a_tiny_loss_needs_more_labels_than_anybody_has() -> None:
    one = np.ones(2000)
    other = one.copy()
    one[0], other[1] = 0.901, 0.9
    lost = loss(one, other)
    assert lost.labels_needed == MOST_LABELS and not lost.is_measurable
