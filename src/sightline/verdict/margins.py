"""Is a difference small enough? Equivalence and non-inferiority, given a margin stated beforehand."""

from __future__ import annotations

from typing import NamedTuple

from scipy import stats

from sightline.verdict.statistics import Estimate


class MarginTests(NamedTuple):
    """What can be said of a difference and a margin, "better" being whatever the metric calls so.

    Args:
        margin: in the metric's unit.
        interval: of the difference, with twice the usual alpha (90%): inside the margin, the models are equivalent.
        p_not_worse: twice the one-sided p of "worse by the margin or more", to be held against alpha like any other.
        p_equivalent: the larger one-sided p of "worse" and of "better by the margin or more" (two one-sided tests).
        p_check_not_worse: the same by the second test.
        p_check_equivalent: likewise.
    """

    margin: float
    interval: tuple[float, float]
    p_not_worse: float
    p_equivalent: float
    p_check_not_worse: float
    p_check_equivalent: float


class Tails(NamedTuple):
    """One-sided p of both ends of a margin.

    Args:
        low: of a difference of minus the margin or less.
        high: of a difference of the margin or more.
    """

    low: float
    high: float


def t_tails(estimate: Estimate, margin: float) -> Tails:
    """Test a difference against both ends of a margin by its t distribution."""
    value, standard_error, degrees_of_freedom = estimate
    low, high = ((value + margin) / standard_error, (margin - value) / standard_error)
    return Tails(float(stats.t.sf(low, degrees_of_freedom)), float(stats.t.sf(high, degrees_of_freedom)))


def tests_of_margin(
    margin: float, interval: tuple[float, float], tails: Tails, checks: Tails, *, higher_is_better: bool
) -> MarginTests:
    """Put the two ends together.

    Source: two one-sided tests: Schuirmann 1987; one-sided 97.5% for non-inferiority: ICH E9, 3.3.2.
    """
    low, high = interval
    worse, check_worse = (tails.low, checks.low) if higher_is_better else (tails.high, checks.high)
    return MarginTests(
        margin=margin,
        interval=(float(low), float(high)),
        p_not_worse=min(1.0, 2 * worse),
        p_equivalent=max(tails),
        p_check_not_worse=min(1.0, 2 * check_worse),
        p_check_equivalent=max(checks),
    )
