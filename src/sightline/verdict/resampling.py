"""What can only be counted: sign flips, label swaps and the cluster bootstrap.

Whole images are flipped, swapped or drawn, never single questions. Everything is a function of the data and a seed.

Shape suffixes: G images (clusters), B resamples, C summed columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

NUM_RESAMPLES = 9_999
MAX_CLUSTERS_ENUMERATED = 16

Statistic = Callable[[np.ndarray], np.ndarray]
"""float64[B, C] summed columns to float64[B] values, nan where undefined."""

_NUMBERS_AT_ONCE = 4_000_000
_NUMBERS_KEPT = 8_000_000
"""How many weights are kept as float64 for the next call: 64 MB of each kind."""


def sign_flip_p(sums_G: np.ndarray, *, seed: int, one_sided: bool = False) -> float:
    """Test a paired difference by flipping the sign of whole images.

    All 2^G flips up to 16 images; beyond, 9,999 random ones, the observed one counted among them.

    Args:
        sums_G: float64[G], each image's summed differences.
        seed: of the random flips.
        one_sided: test against a difference above 0 alone.

    Returns:
        the p: the share of flips at least as far from 0 (one-sided: at least as large) as what was observed.

    Source: Fisher 1935; by cluster: Canay, Romano and Shaikh 2017.
    """
    flipped_B = np.concatenate([signs_BG @ sums_G for signs_BG in _weights(image_signs, len(sums_G), seed)])
    observed, exact = float(sums_G.sum()), len(sums_G) <= MAX_CLUSTERS_ENUMERATED
    if one_sided:
        return _share_as_extreme(flipped_B, observed, exact=exact)
    return _share_as_extreme(np.abs(flipped_B), abs(observed), exact=exact)


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
    for signs_BG in _weights(image_signs, len(model_GC), seed):
        gap_BC = signs_BG @ gap_GC
        swapped.append(difference(np.concatenate([total_C + gap_BC, total_C - gap_BC], axis=1) / 2))
    distances_B = np.nan_to_num(np.abs(np.concatenate(swapped)), nan=math.inf)
    return _share_as_extreme(distances_B, observed, exact=len(model_GC) <= MAX_CLUSTERS_ENUMERATED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bootstrap:
    """A bootstrapped statistic, its bias and its acceleration known.

    Args:
        value: of the data as they are.
        replicates_B: float64[B], the resamples' values, sorted; those in which it does not exist are left out.
        undefined: share of resamples in which the statistic does not exist.
        acceleration: from the jackknife.
        alpha: one minus the coverage of `low` to `high`.
    """

    value: float
    replicates_B: np.ndarray
    undefined: float
    acceleration: float
    alpha: float = 0.05

    @property
    def exists(self) -> bool:
        """Whether there is a value, and enough resamples to say how far it may be off."""
        return not math.isnan(self.value) and len(self.replicates_B) > 1

    @property
    def standard_error(self) -> float:
        """Standard deviation of the replicates."""
        return float(self.replicates_B.std(ddof=1)) if self.exists else math.nan

    @property
    def low(self) -> float:
        """Lower end of the BCa interval."""
        return self.interval(self.alpha)[0]

    @property
    def high(self) -> float:
        """Upper end of the BCa interval."""
        return self.interval(self.alpha)[1]

    @property
    def p(self) -> float:
        """Two-sided p of a value of 0: the alpha at which the BCa interval would just touch 0."""
        below = self.share_below(0.0)
        return max(min(1.0, 2 * min(below, 1 - below)), 2 / (len(self.replicates_B) + 1)) if self.exists else math.nan

    def interval(self, alpha: float) -> tuple[float, float]:
        """Compute the two-sided 1 - alpha BCa interval."""
        if not self.exists:
            return math.nan, math.nan
        z = float(stats.norm.ppf(1 - alpha / 2))
        levels = []
        for quantile in (-z, z):
            shifted = self._bias + quantile
            levels.append(float(stats.norm.cdf(self._bias + shifted / (1 - self.acceleration * shifted))))
        low, high = np.quantile(self.replicates_B, levels)
        return float(low), float(high)

    def share_below(self, null: float) -> float:
        """Compute the one-sided p of values at or below `null`: the level at which the low end would touch it."""
        away = float(stats.norm.ppf(_share_below(self.replicates_B, null))) - self._bias
        share = float(stats.norm.cdf(away / (1 + self.acceleration * away) - self._bias))
        least = 1 / (len(self.replicates_B) + 1)
        return min(1 - least, max(least, share))

    @property
    def _bias(self) -> float:
        return float(stats.norm.ppf(_share_below(self.replicates_B, self.value)))


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
    weights = _weights(resample_counts, len(columns_GC), seed)
    replicates_B = np.concatenate([statistic(counts_BG @ columns_GC) for counts_BG in weights])
    exist_B = ~np.isnan(replicates_B)
    return Bootstrap(
        value=float(statistic(total_C[None, :])[0]),
        replicates_B=np.sort(replicates_B[exist_B]),
        undefined=float(1 - exist_B.mean()),
        acceleration=_acceleration(statistic(total_C - columns_GC)),
        alpha=alpha,
    )


def summed_resamples(columns_GC: np.ndarray, *, seed: int) -> np.ndarray:
    """Sum each resample's columns, float64[B, C]: the same draws as `cluster_bootstrap`."""
    return np.concatenate([counts_BG @ columns_GC for counts_BG in _weights(resample_counts, len(columns_GC), seed)])


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


def _weights(draw: Callable[[int, int], np.ndarray], num_clusters: int, seed: int) -> Iterator[np.ndarray]:
    """Yield what `draw` gives as float64, few enough rows at once to fit in memory."""
    weights_BG = draw(num_clusters, seed)
    if weights_BG.size <= _NUMBERS_KEPT:
        yield _kept(draw, num_clusters, seed)
        return
    step = max(1, _NUMBERS_AT_ONCE // num_clusters)
    for start in range(0, len(weights_BG), step):
        yield weights_BG[start : start + step].astype(np.float64)


@functools.lru_cache(maxsize=2)
def _kept(draw: Callable[[int, int], np.ndarray], num_clusters: int, seed: int) -> np.ndarray:
    """Convert once what every metric of a data set asks for again."""
    return draw(num_clusters, seed).astype(np.float64)


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
    known_G = jackknife_G[~np.isnan(jackknife_G)]
    if not len(known_G):
        return 0.0
    away_G = known_G.mean() - known_G
    spread = float((away_G**2).sum())
    return float((away_G**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
