"""What a table's counts allow to be said of a difference: the range of p over everything it leaves open.

Two models that answered the same questions are compared on those that changed. A table prints how many each had right,
not which: between the fewest and the most questions that can have changed, p takes every value.

Questions are taken for independent here, as a table does not say which share an image; `design_effect` says how far
that could be wrong.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sightline.verdict.statistics import mcnemar, wilson_interval
from sightline.verdict.yes_no import criterion, sensitivity

NUM_TRIED = 5
"""Counts looked at for each side, the ends included, where rounding leaves more of them open."""


class Side(NamedTuple):
    """What one model has right.

    Args:
        right: the possible counts, one tuple per possibility, with one count per stratum.
        sizes: questions of each stratum.
    """

    right: Sequence[tuple[int, ...]]
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """Questions in all."""
        return sum(self.sizes)


class Paired(NamedTuple):
    """What the same questions answered twice allow.

    Args:
        p: exact McNemar, lowest and highest.
        fewest: questions that must have changed.
        most: questions that can have.
        below: the largest number of changed questions with p below alpha, smallest and largest over the counts left
            open; 0 where there is none.
    """

    p: tuple[float, float]
    fewest: int
    most: int
    below: tuple[int, int]


def two_proportions_p(right: int, number: int, right_against: int, number_against: int) -> float:
    """Test whether two independent samples have the same rate: the pooled z test, two-sided.

    Source: Pearson 1900 (chi-squared of a 2 x 2 table, without correction).
    """
    pooled = (right + right_against) / (number + number_against)
    if pooled in (0, 1):
        return 1.0
    error = math.sqrt(pooled * (1 - pooled) * (1 / number + 1 / number_against))
    return float(2 * stats.norm.sf(abs(right / number - right_against / number_against) / error))


def newcombe_interval(
    right: int, number: int, right_against: int, number_against: int, *, alpha: float = 0.05
) -> tuple[float, float]:
    """Compute the interval of the difference of two independent rates from their Wilson intervals.

    Source: Newcombe 1998, method 10.
    """
    rate, rate_against = right / number, right_against / number_against
    low, high = wilson_interval(rate, number, alpha=alpha)
    low_against, high_against = wilson_interval(rate_against, number_against, alpha=alpha)
    difference = rate - rate_against
    return (
        difference - math.hypot(rate - low, high_against - rate_against),
        difference + math.hypot(high - rate, rate_against - low_against),
    )


def unpaired_bounds(model: Side, against: Side) -> dict[str, Any]:
    """Bound difference, interval and p of two models as if they had been asked different questions."""
    pairs = [
        (sum(right), model.total, sum(right_against), against.total) for right, right_against in _tried(model, against)
    ]
    differences = [right / n - right_against / m for right, n, right_against, m in pairs]
    intervals = [newcombe_interval(*pair) for pair in pairs]
    p_values = [two_proportions_p(*pair) for pair in pairs]
    return {
        "difference": [min(differences), max(differences)],
        "interval": [min(low for low, _ in intervals), max(high for _, high in intervals)],
        "p": [min(p_values), max(p_values)],
    }


def paired_bounds(model: Side, against: Side, *, alpha: float = 0.05) -> Paired:
    """Bound McNemar's exact p over every way in which the same questions can have been answered.

    Within a stratum with a and b right of s, from |a - b| to min(a + b, 2 s - a - b) questions have changed.
    """
    p_values, fewest, most, below = [], [], [], []
    for right, right_against in _tried(model, against):
        gap = sum(right) - sum(right_against)
        least = sum(abs(a - b) for a, b in zip(right, right_against, strict=True))
        greatest = sum(
            min(a + b, 2 * size - a - b) for a, b, size in zip(right, right_against, model.sizes, strict=True)
        )
        p_values += [changed_p(gap, least), changed_p(gap, greatest)]
        fewest.append(least)
        most.append(greatest)
        below.append(_most_changed_below(gap, least, greatest, alpha))
    return Paired((min(p_values), max(p_values)), min(fewest), max(most), (min(below), max(below)))


def changed_p(gap: int, num_changed: int) -> float:
    """McNemar's exact p where questions changed and one side gained `gap` of them."""
    return mcnemar((num_changed + gap) // 2, (num_changed - gap) // 2).exact


def _most_changed_below(gap: int, least: int, greatest: int, alpha: float) -> int:
    """Find by halving how many questions may have changed: p rises with them at the same gap."""
    if changed_p(gap, least) >= alpha:
        return 0
    steps = (greatest - least) // 2
    low, high = 0, steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if changed_p(gap, least + 2 * middle) < alpha else (low, middle - 1)
    return least + 2 * low


def _tried(model: Side, against: Side) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair counts of both sides: the ends, some between, and for each the one nearest to it in rate."""
    own, other = _thinned(model.right), sorted(against.right, key=sum)
    rates = np.array([sum(right) for right in other]) / against.total
    nearest = [(right, other[int(np.abs(rates - sum(right) / model.total).argmin())]) for right in own]
    return [*itertools.product(own, _thinned(other)), *nearest]


def _thinned(possible: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    ordered = sorted(possible, key=lambda right: (sum(right), right))
    picked = np.linspace(0, len(ordered) - 1, min(NUM_TRIED, len(ordered))).round().astype(int)
    return [ordered[index] for index in picked]


def design_effect_to_hide(p: float, *, alpha: float = 0.05) -> float:
    """By how much clustering would have to widen the variance for p to rise to alpha; at least that where p is 0."""
    return float((stats.norm.isf(max(p, sys.float_info.min) / 2) / stats.norm.isf(alpha / 2)) ** 2)


class Signal(NamedTuple):
    """Sensitivity and criterion of a yes/no set, and the variance of each."""

    sensitivity: float
    sensitivity_variance: float
    criterion: float
    criterion_variance: float


def signal_of(tp: int, fp: int, fn: int, tn: int) -> Signal:
    """Tell how well yes and no are told apart (d') from how readily yes is said (criterion).

    Source: variances: Gourevitch and Galanter 1967; of half an answer more in each cell, as the values.
    """
    variance = 0.0
    for yes, number in ((tp + 0.5, tp + fn + 1), (fp + 0.5, fp + tn + 1)):
        rate = yes / number
        variance += rate * (1 - rate) / number / float(stats.norm.pdf(stats.norm.ppf(rate))) ** 2
    parts = {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    return Signal(float(sensitivity(parts)), variance, float(criterion(parts)), variance / 4)
