"""Numbers with their uncertainty: the closed formulas a verdict stands on.

Questions about one image are not independent, so the image is the unit throughout: every standard error is
clustered by image. Resampling is in `resampling`. What was chosen against what: design/verdicts.md.

Shape suffixes: N questions, G images (clusters), S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

MOST_RUNS = 50
"""More training runs than anybody will make are not named as what a recipe needs."""


class Estimate(NamedTuple):
    """A mean with its standard error and the degrees of freedom of its t distribution (arrays stay arrays)."""

    value: Any
    standard_error: Any
    degrees_of_freedom: float


def cluster_sums(values: np.ndarray, clusters_N: np.ndarray) -> np.ndarray:
    """Sum values within each cluster.

    Args:
        values: float64[..., N].
        clusters_N: int64[N], cluster of each value, numbered from 0 without gaps.

    Returns:
        float64[..., G].
    """
    order = np.argsort(clusters_N, kind="stable")
    starts = np.flatnonzero(np.diff(clusters_N[order], prepend=-1))
    return np.add.reduceat(values[..., order], starts, axis=-1)


def clustered_mean(values: np.ndarray, clusters_N: np.ndarray) -> Estimate:
    """Estimate a mean with its cluster-robust standard error.

    Args:
        values: float64[..., N]; leading axes are separate data sets with the same clusters.
        clusters_N: int64[N], cluster of each value, numbered from 0 without gaps.

    Returns:
        mean, CR1 standard error, G - 1 degrees of freedom; standard error nan for a single cluster.

    Source: Liang and Zeger 1986; CR1 and t with G - 1: Cameron and Miller 2015, eq. 11 and section VI; for model
        evaluations: Miller 2024 (arXiv 2411.00640).
    """
    num_values, num_clusters = values.shape[-1], int(clusters_N.max()) + 1
    mean = values.mean(axis=-1)
    residuals_G = cluster_sums(values - mean[..., None], clusters_N)
    correction = num_clusters / (num_clusters - 1) if num_clusters > 1 else math.nan
    standard_error = np.sqrt(correction * (residuals_G**2).sum(axis=-1)) / num_values
    return Estimate(mean, standard_error, num_clusters - 1)


def add_seed_variance(estimate: Estimate, seed_means_S: Sequence[float]) -> Estimate:
    """Widen the estimate of an average over training runs by the variance between the runs.

    The variance of the average gains s^2 / S, s^2 being the sample variance of the runs' own means; degrees of
    freedom after Welch and Satterthwaite. The runs' means also vary by the sampling of questions, which the first
    term holds already, so the sum errs towards caution.

    Args:
        estimate: of the questions' averages over runs.
        seed_means_S: each run's own mean, at least 2.

    Source: Satterthwaite 1946.
    """
    from_questions = float(estimate.standard_error) ** 2
    from_seeds = float(np.var(seed_means_S, ddof=1)) / len(seed_means_S)
    total = from_questions + from_seeds
    if total == 0:
        return estimate
    spread = from_questions**2 / estimate.degrees_of_freedom + from_seeds**2 / (len(seed_means_S) - 1)
    return Estimate(estimate.value, math.sqrt(total), total**2 / spread)


class RunSpread(NamedTuple):
    """What the spread between training runs does to the estimate of a recipe.

    Args:
        share: of the estimate's variance that lies between runs, in [0, 1].
        num_needed: runs that would find a difference of the size seen; None where it takes more than `MOST_RUNS`, or
            where two runs alone tell their spread.
    """

    share: float
    num_needed: int | None


def run_spread(
    estimate: Estimate, seed_means_S: Sequence[float], *, alpha: float = 0.05, power: float = 0.8
) -> RunSpread:
    """Say how much of an average's uncertainty lies between training runs, and how many runs would be enough.

    The runs' variance is taken as they show it, which three or four tell roughly; see `add_seed_variance`.

    Args:
        estimate: of the questions' averages over runs, without the variance between runs.
        seed_means_S: each run's own mean, at least 2.
    """
    between, num_runs = float(np.var(seed_means_S, ddof=1)), len(seed_means_S)
    from_questions = float(estimate.standard_error) ** 2
    share = between / num_runs / (from_questions + between / num_runs)
    for num_needed in range(num_runs + 1, MOST_RUNS + 1) if num_runs > 2 else ():
        variances = (from_questions, between / num_needed)
        spread = variances[0] ** 2 / estimate.degrees_of_freedom + variances[1] ** 2 / (num_needed - 1)
        standard_error, freedom = math.sqrt(sum(variances)), sum(variances) ** 2 / spread
        if detectable_difference(standard_error, freedom, alpha=alpha, power=power) <= abs(float(estimate.value)):
            return RunSpread(share, num_needed)
    return RunSpread(share, None)


def t_interval(estimate: Estimate, *, alpha: float = 0.05) -> tuple[Any, Any]:
    """Compute the two-sided 1 - alpha interval of an estimate."""
    half = stats.t.ppf(1 - alpha / 2, estimate.degrees_of_freedom) * estimate.standard_error
    return estimate.value - half, estimate.value + half


def t_p(estimate: Estimate) -> Any:
    """Compute the two-sided p of a mean of 0; by the survival function, so that small p do not round to 0."""
    return 2 * stats.t.sf(np.abs(estimate.value) / estimate.standard_error, estimate.degrees_of_freedom)


def detectable_difference(
    standard_error: float, degrees_of_freedom: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Compute the smallest true difference that such data would have found with the given power.

    Args:
        standard_error: of the paired difference, as measured.
        degrees_of_freedom: of its t distribution.

    Returns:
        the difference, in the unit of the standard error.

    Source: Miller 2024 (arXiv 2411.00640), section 5, with t in place of normal quantiles.
    """
    quantiles = stats.t.ppf([1 - alpha / 2, power], degrees_of_freedom)
    return float(quantiles.sum() * standard_error)


def effective_number(values_N: np.ndarray, clusters_N: np.ndarray) -> float:
    """Compute how many independent questions would tell as much as these clustered ones.

    The number of questions over the design effect (clustered over independent variance), a design effect under 1
    counting as 1. Where all values are equal it cannot be measured, and each image counts once.
    """
    num_values, num_clusters = len(values_N), int(clusters_N.max()) + 1
    independent = float(np.var(values_N, ddof=1)) / num_values if num_values > 1 else 0.0
    if independent == 0 or num_clusters == 1:
        return float(num_clusters)
    clustered = float(clustered_mean(values_N, clusters_N).standard_error) ** 2
    return num_values / max(1.0, clustered / independent)


def num_clusters_needed(num_clusters: int, detectable: float, difference: float) -> int | None:
    """Compute how many such images would find a true difference of this size; None where it is 0.

    The standard error falls with the square root of the number of images.

    Args:
        num_clusters: images there are.
        detectable: by `detectable_difference`, with these images.
        difference: to be found.
    """
    return None if difference == 0 else math.ceil(num_clusters * (detectable / difference) ** 2)


def wilson_interval(rate: float, number: float, *, alpha: float = 0.05) -> tuple[float, float]:
    """Compute Wilson's score interval of a rate.

    Args:
        rate: in [0, 1].
        number: of independent trials; need not be whole, see `effective_number`.

    Source: Wilson 1927; for clustered data: Franco et al. 2019.
    """
    z = float(stats.norm.ppf(1 - alpha / 2))
    centre = (rate + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * math.sqrt(rate * (1 - rate) / number + z**2 / (4 * number**2))
    low = 0.0 if rate == 0 else max(0.0, centre - half)
    high = 1.0 if rate == 1 else min(1.0, centre + half)
    return low, high


class McNemar(NamedTuple):
    """Two-sided p of McNemar's test: exact, and the less conservative mid-p."""

    exact: float
    mid_p: float


def mcnemar(fixed: int, broke: int) -> McNemar:
    """Test whether as many independent questions were fixed as broken.

    Args:
        fixed: questions wrong before and right now.
        broke: questions right before and wrong now.

    Source: McNemar 1947; mid-p: Fagerland, Lydersen and Laake 2013.
    """
    num_changed, fewer = fixed + broke, min(fixed, broke)
    if fixed == broke:
        return McNemar(1.0, 1.0)
    one_sided = float(stats.binom.cdf(fewer, num_changed, 0.5))
    return McNemar(min(1.0, 2 * one_sided), 2 * one_sided - float(stats.binom.pmf(fewer, num_changed, 0.5)))


def holm(p_values: Sequence[float], *, of: Sequence[object] | None = None) -> list[float]:
    """Adjust a family of p values so that the chance of any false alarm in it stays below alpha.

    Args:
        p_values: of the family.
        of: what each p is about, where one thing is tested in several ways of which no two can be false alarms
            together, such as "is there a difference" and "is it beyond the margin"; each stands alone by default.
            A thing keeps its share of alpha until all its tests have succeeded.

    Source: Holm 1979; with hypotheses that exclude one another: Shaffer 1986.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        num_left = len(order) - rank if of is None else len({of[other] for other in order[rank:]})
        largest = max(largest, min(1.0, num_left * p_values[index]))
        adjusted[index] = largest
    return adjusted


def groups_needed(num_comparisons: int, alpha: float = 0.05) -> int:
    """Give the fewest groups of questions on which a difference can be called real.

    Two models' answers can be flipped or swapped group by group in 2^G ways, and the observed one and its mirror are
    always among the extreme; so the check that a difference must pass has no p below 2 / 2^G, which is corrected for
    the number of comparisons.

    Args:
        num_comparisons: planned.
        alpha: the rate of false alarms that is allowed.
    """
    return math.floor(math.log2(2 * num_comparisons / alpha)) + 1
