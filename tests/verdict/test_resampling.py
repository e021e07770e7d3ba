from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sightline.verdict import resampling
from sightline.verdict.resampling import cluster_bootstrap, label_swap_p, resample_counts, sign_flip_p


def precision(sums_BC: np.ndarray) -> np.ndarray:
    return np.divide(
        sums_BC[:, 0], sums_BC.sum(axis=1), out=np.full(len(sums_BC), np.nan), where=sums_BC.sum(axis=1) != 0
    )


def precision_gap(sums_BC: np.ndarray) -> np.ndarray:
    return precision(sums_BC[:, :2]) - precision(sums_BC[:, 2:])


def counts_of(seed: int, num_images: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, size=(num_images, 2)).astype(float)


def test_sign_flips_of_few_images_are_all_tried() -> None:
    sums_G = np.array([2.0, -1.0, 1.0, 3.0, 0.0])
    flips = [abs(np.dot(signs, sums_G)) for signs in itertools.product((1, -1), repeat=5)]
    assert sign_flip_p(sums_G, seed=0) == sum(flip >= 5 for flip in flips) / 32
    assert sign_flip_p(np.ones(6), seed=0) == 2 / 64
    assert sign_flip_p(np.zeros(6), seed=0) == 1.0


def test_one_sided_flips_count_the_larger_sums_alone() -> None:
    sums_G = np.array([2.0, -1.0, 1.0, 3.0, 0.5])
    flips = [np.dot(signs, sums_G) for signs in itertools.product((1, -1), repeat=5)]
    assert sign_flip_p(sums_G, seed=0, one_sided=True) == sum(flip >= 5.5 for flip in flips) / 32
    assert sign_flip_p(-sums_G, seed=0, one_sided=True) == sum(flip >= -5.5 for flip in flips) / 32


@pytest.mark.parametrize("num_images", [6, 11])
def test_equal_sums_stay_equal_whatever_the_order_of_adding(num_images: int) -> None:
    generator = np.random.default_rng(num_images)
    for _ in range(50):
        whole_G = generator.integers(-4, 5, size=num_images).astype(float)
        assert sign_flip_p(whole_G / 10, seed=0) == sign_flip_p(whole_G, seed=0)


def test_random_sign_flips_agree_with_the_normal_limit_and_scipy() -> None:
    sums_G = np.random.default_rng(2).normal(0.25, 1.0, size=120)
    ours = sign_flip_p(sums_G, seed=0)
    normal = 2 * stats.norm.sf(abs(sums_G.sum()) / np.sqrt((sums_G**2).sum()))
    oracle = stats.permutation_test((sums_G,), np.sum, permutation_type="samples", n_resamples=9_999, rng=1).pvalue
    assert ours == pytest.approx(normal, abs=0.01)
    assert ours == pytest.approx(oracle, abs=0.01)
    assert sign_flip_p(sums_G, seed=0) == ours == sign_flip_p(-sums_G, seed=0)


def test_the_smallest_p_counts_the_observation_itself() -> None:
    assert sign_flip_p(np.ones(200), seed=0) == pytest.approx(1 / 10_000)


def test_label_swaps_of_few_images_are_all_tried() -> None:
    model_GC, against_GC = counts_of(1, 6), counts_of(2, 6)
    observed = abs(precision_gap(np.concatenate([model_GC, against_GC], axis=1).sum(axis=0)[None])[0])
    extreme = 0
    for swaps in itertools.product((False, True), repeat=6):
        swap_G1 = np.array(swaps)[:, None]
        left, right = np.where(swap_G1, against_GC, model_GC), np.where(swap_G1, model_GC, against_GC)
        gap = precision_gap(np.concatenate([left, right], axis=1).sum(axis=0)[None])[0]
        extreme += abs(gap) >= observed - 1e-12
    assert label_swap_p(model_GC, against_GC, precision_gap, seed=0) == extreme / 64


def test_resamples_draw_every_image_equally_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts_BG = resample_counts(40, 3)
    assert counts_BG.shape == (9_999, 40)
    assert (counts_BG.sum(axis=1) == 40).all()
    assert counts_BG.mean(axis=0) == pytest.approx(np.ones(40), abs=0.05)
    assert counts_BG.var() == pytest.approx(1 - 1 / 40, abs=0.02)
    monkeypatch.setattr(resampling, "_NUMBERS_AT_ONCE", 1_000)
    assert (resample_counts.__wrapped__(40, 3) == counts_BG).all()
    assert (resample_counts(40, 4) != counts_BG).any()


def test_the_interval_agrees_with_scipys_bca() -> None:
    columns_GC = counts_of(5, 60)

    def of_images(index: np.ndarray, axis: int = -1) -> np.ndarray:
        sums = columns_GC[index.astype(int)].sum(axis=-2)
        return sums[..., 0] / sums.sum(axis=-1)

    oracle = stats.bootstrap(
        (np.arange(60),), of_images, n_resamples=9_999, method="BCa", rng=np.random.default_rng(7), vectorized=True
    )
    ours = cluster_bootstrap(columns_GC, precision, seed=0)
    assert ours.standard_error == pytest.approx(oracle.standard_error, rel=0.03)
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert ours.low == pytest.approx(oracle.confidence_interval.low, abs=0.04 * width)
    assert ours.high == pytest.approx(oracle.confidence_interval.high, abs=0.04 * width)


def test_p_is_the_alpha_at_which_the_interval_touches_zero() -> None:
    columns_GC = np.concatenate([counts_of(11, 50) + np.array([0.6, 0.0]), counts_of(12, 50)], axis=1)
    found = cluster_bootstrap(columns_GC, precision_gap, seed=0)
    assert 0.001 < found.p < 0.5
    touching = cluster_bootstrap(columns_GC, precision_gap, seed=0, alpha=found.p)
    nearest = min(abs(touching.low), abs(touching.high))
    assert nearest < 0.01 * found.standard_error


def test_the_one_sided_p_is_half_the_alpha_whose_interval_ends_there() -> None:
    found = cluster_bootstrap(counts_of(5, 60), precision, seed=0)
    for alpha in (0.02, 0.05, 0.2):
        low, high = found.interval(alpha)
        assert found.share_below(low) == pytest.approx(alpha / 2, abs=1e-3)
        assert found.share_below(high) == pytest.approx(1 - alpha / 2, abs=1e-3)


def test_swapping_the_arms_mirrors_the_interval() -> None:
    left_GC, right_GC = counts_of(13, 30), counts_of(14, 30)
    one = cluster_bootstrap(np.concatenate([left_GC, right_GC], axis=1), precision_gap, seed=0)
    other = cluster_bootstrap(np.concatenate([right_GC, left_GC], axis=1), precision_gap, seed=0)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low), abs=1e-9)
    assert (other.standard_error, other.p) == pytest.approx((one.standard_error, one.p))


def test_resamples_without_a_value_are_counted_not_hidden() -> None:
    columns_GC = np.zeros((8, 2))
    columns_GC[0] = [1.0, 1.0]
    found = cluster_bootstrap(columns_GC, precision, seed=0)
    assert found.undefined == pytest.approx((7 / 8) ** 8, abs=0.02)
    nowhere = cluster_bootstrap(np.zeros((8, 2)), precision, seed=0)
    assert math.isnan(nowhere.low) and nowhere.undefined == 1.0
