"""What can only be counted: sign flips, label swaps and the cluster bootstrap.

Whole images are flipped, swapped or drawn, never single questions. Everything is a function of the data and a seed.

Shape suffixes: G images (clusters), B resamples, C summed columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

NUM_RESAMPLES = 9_999
MAX_CLUSTERS_ENUMERATED = 16

Statistic = Callable[[np.ndarray], np.ndarray]
"""float64[B, C] summed columns to float64[B] values, nan where undefined."""

_NUMBERS_AT_ONCE = 4_000_000


def sign_flip_p(sums_G: np.ndarray, *, seed: int) -> float:
    """Test a paired difference by flipping the sign of whole images.

    All 2^G flips up to 16 images; beyond, 9,999 random ones, the observed one counted among them.

    Args:
        sums_G: float64[G], each image's summed differences.
        seed: of the random flips.

    Returns:
        the two-sided p: the share of flips at least as far from 0 as what was observed.

    Source: Fisher 1935; by cluster: Canay, Romano and Shaikh 2017.
    """
    observed = abs(sums_G.sum())
    flipped_B = np.concatenate([signs_BG @ sums_G for signs_BG in _blocks(image_signs(len(sums_G), seed))])
    return _share_as_extreme(np.abs(flipped_B), observed, exact=len(sums_G) <= MAX_CLUSTERS_ENUMERATED)


def label_swap_p(model_GC: np.ndarray, against_GC: np.ndarray, difference: Statistic, *, seed: int) -> float:
    """Test the difference of a ratio metric by swapping which model is which, whole images at a time.

    Args:
        model_GC: float64[G, C], each image's summed parts for one model.
        against_GC: likewise for the other.
        difference: float64[B, 2C] (model's columns, then the other's) to float64[B].
        seed: of the random swaps.

    Returns:
        the two-sided p; swaps that leave the metric undefined count as extreme.
    """
    observed = abs(difference(np.concatenate([model_GC.sum(axis=0), against_GC.sum(axis=0)])[None, :])[0])
    total_C, gap_GC = (model_GC + against_GC).sum(axis=0), model_GC - against_GC
    swapped = []
    for signs_BG in _blocks(image_signs(len(model_GC), seed)):
        gap_BC = signs_BG @ gap_GC
        swapped.append(difference(np.concatenate([total_C + gap_BC, total_C - gap_BC], axis=1) / 2))
    distances_B = np.nan_to_num(np.abs(np.concatenate(swapped)), nan=math.inf)
    return _share_as_extreme(distances_B, observed, exact=len(model_GC) <= MAX_CLUSTERS_ENUMERATED)


class Bootstrap(NamedTuple):
    """A bootstrapped statistic.

    Args:
        value: of the data as they are.
        low: lower end of the BCa interval.
        high: upper end.
        standard_error: of the replicates.
        p: two-sided, of a value of 0: the alpha at which the BCa interval would just touch 0.
        undefined: share of resamples in which the statistic does not exist; the rest is left out of them.
    """

    value: float
    low: float
    high: float
    standard_error: float
    p: float
    undefined: float


def cluster_bootstrap(columns_GC: np.ndarray, statistic: Statistic, *, seed: int, alpha: float = 0.05) -> Bootstrap:
    """Bootstrap a function of summed columns by drawing whole images, with the BCa interval.

    Args:
        columns_GC: float64[G, C], each image's sums.
        statistic: of the sums over all images.
        seed: of the draws; one seed and one G give the same draws, whatever the columns.
        alpha: one minus the interval's coverage.

    Source: Efron 1987 (bias-corrected and accelerated, jackknife acceleration); p by inverting the interval.
    """
    total_C = columns_GC.sum(axis=0)
    value = float(statistic(total_C[None, :])[0])
    blocks = _blocks(resample_counts(len(columns_GC), seed))
    replicates_B = np.concatenate([statistic(counts_BG @ columns_GC) for counts_BG in blocks])
    undefined = float(np.isnan(replicates_B).mean())
    replicates_B = np.sort(replicates_B[~np.isnan(replicates_B)])
    if math.isnan(value) or len(replicates_B) < 2:
        return Bootstrap(value, math.nan, math.nan, math.nan, math.nan, undefined)
    standard_error = float(replicates_B.std(ddof=1))
    bias = float(stats.norm.ppf(_share_below(replicates_B, value)))
    acceleration = _acceleration(statistic(total_C - columns_GC))

    def level(normal_quantile: float) -> float:
        shifted = bias + normal_quantile
        return float(stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)))

    z = float(stats.norm.ppf(1 - alpha / 2))
    low, high = np.quantile(replicates_B, [level(-z), level(z)])
    away = float(stats.norm.ppf(_share_below(replicates_B, 0.0))) - bias
    tail = float(stats.norm.cdf(away / (1 + acceleration * away) - bias))
    p = max(2 * min(tail, 1 - tail), 2 / (len(replicates_B) + 1))
    return Bootstrap(value, float(low), float(high), standard_error, min(1.0, p), undefined)


@functools.lru_cache(maxsize=4)
def resample_counts(num_clusters: int, seed: int) -> np.ndarray:
    """Draw how often each image occurs in each resample.

    Kept for the next call: the arms and metrics of one data set share their draws.

    Returns:
        uint16[B, G], read-only; rows sum to G.
    """
    generator = np.random.default_rng([seed, num_clusters])
    counts_BG = np.empty((NUM_RESAMPLES, num_clusters), dtype=np.uint16)
    step = max(1, _NUMBERS_AT_ONCE // num_clusters)
    for start in range(0, NUM_RESAMPLES, step):
        num_rows = min(step, NUM_RESAMPLES - start)
        drawn = generator.integers(num_clusters, size=(num_rows, num_clusters))
        drawn += np.arange(num_rows)[:, None] * num_clusters
        counted = np.bincount(drawn.ravel(), minlength=num_rows * num_clusters)
        counts_BG[start : start + num_rows] = counted.reshape(num_rows, num_clusters)
    counts_BG.setflags(write=False)
    return counts_BG


@functools.lru_cache(maxsize=4)
def image_signs(num_clusters: int, seed: int) -> np.ndarray:
    """Draw which images are flipped: every combination of few images, 9,999 random ones of many.

    Returns:
        int8[B, G] of +1 and -1, read-only; kept like `resample_counts`.
    """
    if num_clusters <= MAX_CLUSTERS_ENUMERATED:
        flipped_BG = np.arange(2**num_clusters)[:, None] >> np.arange(num_clusters) & 1
    else:
        generator = np.random.default_rng([seed, num_clusters])
        random_bytes = generator.integers(256, size=(NUM_RESAMPLES, -(-num_clusters // 8)), dtype=np.uint8)
        flipped_BG = np.unpackbits(random_bytes, axis=1, count=num_clusters)
    signs_BG = 1 - 2 * flipped_BG.astype(np.int8)
    signs_BG.setflags(write=False)
    return signs_BG


def _blocks(weights_BG: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of small integers as float64, few enough at once to fit in memory."""
    step = max(1, _NUMBERS_AT_ONCE // weights_BG.shape[1])
    for start in range(0, len(weights_BG), step):
        yield weights_BG[start : start + step].astype(np.float64)


def _share_as_extreme(distances_B: np.ndarray, observed: float, *, exact: bool) -> float:
    # Sums of the same numbers in another order differ in the last bits; equal must stay equal, at 0 as well.
    slack = 1e-9 * max(observed, float(distances_B.max(initial=0.0, where=np.isfinite(distances_B))))
    num_extreme = int((distances_B >= observed - slack).sum())
    if exact:
        return num_extreme / len(distances_B)
    return (num_extreme + 1) / (len(distances_B) + 1)


def _share_below(sorted_B: np.ndarray, value: float) -> float:
    """Share of replicates below a value, ties counting half, kept off 0 and 1 by half a replicate."""
    num_replicates = len(sorted_B)
    slack = 1e-9 * max(abs(value), float(np.abs(sorted_B).max()))
    below = np.searchsorted(sorted_B, value - slack, side="left")
    up_to = np.searchsorted(sorted_B, value + slack, side="right")
    return float(np.clip((below + up_to) / 2, 0.5, num_replicates - 0.5)) / num_replicates


def _acceleration(jackknife_G: np.ndarray) -> float:
    away_G = np.nanmean(jackknife_G) - jackknife_G[~np.isnan(jackknife_G)]
    spread = float((away_G**2).sum())
    return float((away_G**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
