from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from sightline.verdict import statistics
from sightline.verdict.statistics import Estimate


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [
        (0, 30, 0.0, 0.113513),
        (30, 30, 0.886487, 1.0),
        (226, 451, 0.455149, 0.547049),
        (1, 1, 0.206549, 1.0),
    ],
)
def test_wilson(right: int, number: int, low: float, high: float) -> None:
    assert statistics.wilson_interval(right / number, number) == pytest.approx((low, high), abs=1e-6)


def test_the_rule_of_three_stands_beside_wilson() -> None:
    exact = stats.binomtest(0, 30).proportion_ci(method="exact").high
    assert exact == pytest.approx(0.115703, abs=1e-6)
    assert statistics.wilson_interval(0, 30)[1] < exact


@given(st.integers(1, 5000).flatmap(lambda number: st.tuples(st.integers(0, number), st.just(number))))
def test_wilson_agrees_with_statsmodels(counts: tuple[int, int]) -> None:
    right, number = counts
    oracle = proportion_confint(right, number, method="wilson")
    assert statistics.wilson_interval(right / number, number) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize(
    ("fixed", "broke", "exact", "mid_p"),
    [
        (0, 0, 1.0, 1.0),
        (0, 5, 0.0625, 0.03125),
        (0, 6, 0.03125, 0.015625),
        (5, 15, 0.041389, 0.026604),
        (10, 25, 0.016674, 0.011331),
        (1, 9, 0.021484, 0.011719),
        (7, 7, 1.0, 1.0),
    ],
)
def test_mcnemar(fixed: int, broke: int, exact: float, mid_p: float) -> None:
    assert statistics.mcnemar(fixed, broke) == pytest.approx((exact, mid_p), abs=1e-6)
    assert statistics.mcnemar(broke, fixed) == statistics.mcnemar(fixed, broke)


def test_mcnemar_of_many_questions_stays_finite() -> None:
    exact, mid_p = statistics.mcnemar(600, 400)
    assert 0 < mid_p < exact < 1e-9


@pytest.mark.parametrize(("p", "adjusted"), [([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]), ([], [])])
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert statistics.holm(p) == pytest.approx(adjusted, abs=1e-12)


@settings(max_examples=8)  # statsmodels takes its time
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_agrees_with_statsmodels(p: list[float]) -> None:
    assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_what_excludes_one_another_counts_once() -> None:
    # Two questions, the first tested in two ways: at the smallest p both are left, and so they are at the second, for
    # the first question has a test that has not succeeded yet.
    assert statistics.holm([0.01, 0.04, 0.03], of=["a", "a", "b"]) == pytest.approx([0.02, 0.06, 0.06])
    assert statistics.holm([0.01, 0.02, 0.03], of=["a", "a", "b"]) == pytest.approx([0.02, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_of_things_tested_once_each_is_holm(p: list[float]) -> None:
    assert statistics.holm(p, of=range(len(p))) == statistics.holm(p)


def test_four_times_the_images_find_half_the_difference() -> None:
    assert statistics.num_clusters_needed(100, 0.06, 0.03) == 400
    assert statistics.num_clusters_needed(100, 0.06, -0.12) == 25
    assert statistics.num_clusters_needed(100, 0.06, 0.0) is None


def invented(seed: int, num_questions: int, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of -1, 0 and 1 on images of unequal size that pull their questions the same way."""
    generator = np.random.default_rng(seed)
    images_N = np.concatenate([np.arange(num_images), generator.integers(num_images, size=num_questions - num_images)])
    pull_N = generator.normal(0.1, 0.6, size=num_images)[images_N] + generator.normal(size=num_questions)
    return np.sign(np.round(pull_N)), images_N


@pytest.mark.parametrize(("num_questions", "num_images"), [(451, 203), (30, 30), (40, 7), (300, 20)])
def test_the_clustered_mean_agrees_with_statsmodels(num_questions: int, num_images: int) -> None:
    values_N, clusters_N = invented(num_questions, num_questions, num_images)
    oracle = OLS(values_N, np.ones(num_questions)).fit(cov_type="cluster", cov_kwds={"groups": clusters_N}, use_t=True)
    estimate = statistics.clustered_mean(values_N, clusters_N)
    assert estimate.value == pytest.approx(oracle.params[0], abs=1e-10)
    assert estimate.standard_error == pytest.approx(oracle.bse[0], abs=1e-10)
    assert statistics.t_interval(estimate) == pytest.approx(oracle.conf_int()[0], abs=1e-10)
    assert statistics.t_p(estimate) == pytest.approx(oracle.pvalues[0], abs=1e-10)


def test_duplicated_rows_of_an_image_tell_nothing_new() -> None:
    values_N, clusters_N = invented(5, 120, 30)
    once = statistics.clustered_mean(values_N, clusters_N)
    twice = statistics.clustered_mean(np.tile(values_N, 2), np.tile(clusters_N, 2))
    assert twice == pytest.approx(once, abs=1e-14)
    assert statistics.effective_number(np.tile(values_N, 2), np.tile(clusters_N, 2)) <= 120


def test_swapping_the_arms_mirrors_the_interval_and_order_means_nothing() -> None:
    values_N, clusters_N = invented(6, 120, 30)
    estimate = statistics.clustered_mean(values_N, clusters_N)
    low, high = statistics.t_interval(estimate)
    swapped = statistics.clustered_mean(-values_N, clusters_N)
    assert statistics.t_interval(swapped) == pytest.approx((-high, -low), abs=1e-14)
    order = np.random.default_rng(0).permutation(120)
    assert statistics.clustered_mean(values_N[order], clusters_N[order]) == pytest.approx(estimate, abs=1e-14)


def test_many_data_sets_at_once_are_each_one_alone() -> None:
    values_N, clusters_N = invented(7, 60, 20)
    together = statistics.clustered_mean(np.stack([values_N, 2 * values_N + 1]), clusters_N)
    for row, values in enumerate((values_N, 2 * values_N + 1)):
        alone = statistics.clustered_mean(values, clusters_N)
        assert (together.value[row], together.standard_error[row]) == pytest.approx(alone[:2])


def test_independent_questions_count_each_and_equal_ones_count_images() -> None:
    values_N, _ = invented(8, 50, 50)
    assert statistics.effective_number(values_N, np.arange(50)) == pytest.approx(50)
    assert statistics.effective_number(np.repeat(values_N, 4), np.repeat(np.arange(50), 4)) == pytest.approx(
        50, rel=0.05
    )
    assert statistics.effective_number(np.ones(40), np.repeat(np.arange(10), 4)) == 10
    assert statistics.effective_number(np.array([0.0, 1.0]), np.array([0, 0])) == 1


def test_the_detectable_difference_is_found_with_the_power_it_promises() -> None:
    degrees_of_freedom, standard_error = 40, 0.03
    detectable = statistics.detectable_difference(standard_error, degrees_of_freedom)
    critical = stats.t.ppf(0.975, degrees_of_freedom)
    found = stats.nct.sf(critical, degrees_of_freedom, detectable / standard_error)
    assert found == pytest.approx(0.80, abs=0.005)
    assert detectable == pytest.approx(standard_error * (critical + stats.t.ppf(0.8, degrees_of_freedom)))


def test_variance_between_training_runs_by_hand() -> None:
    # Three runs with means 0.02, 0.05 and 0.08: variance 0.0009, of their average 0.0003.
    estimate = statistics.add_seed_variance(Estimate(0.05, 0.02, 99), [0.02, 0.05, 0.08])
    assert estimate.standard_error == pytest.approx(math.sqrt(0.0004 + 0.0003))
    assert estimate.degrees_of_freedom == pytest.approx(0.0007**2 / (0.0004**2 / 99 + 0.0003**2 / 2))
    agreeing = statistics.add_seed_variance(Estimate(0.05, 0.02, 99), [0.05, 0.05])
    assert agreeing == pytest.approx(Estimate(0.05, 0.02, 99))


@pytest.mark.parametrize("effect", [0.9, 1.0, 1.3])
def test_the_runs_that_a_recipe_needs_are_those_of_a_t_test_of_runs(effect: float) -> None:
    means = effect + np.array([-1.0, 0.0, 1.0])  # a standard deviation of 1 between runs, and of next to 0 in them
    found = statistics.run_spread(Estimate(effect, 1e-6, 99), means.tolist())
    exact = TTestPower().solve_power(effect_size=effect, power=0.8, alpha=0.05)
    assert found.num_needed is not None and abs(found.num_needed - math.ceil(exact)) <= 1
    assert found.share == pytest.approx(1.0)
    unclear = statistics.run_spread(Estimate(effect, effect, 99), means.tolist())  # the questions alone are too few
    assert unclear.num_needed is None and unclear.share == pytest.approx((1 / 3) / (1 / 3 + effect**2))
    assert statistics.run_spread(Estimate(effect, 1e-6, 99), [0.0, 2 * effect]).num_needed is None


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 9)), min_size=2, max_size=60))
def test_no_data_give_a_negative_or_unordered_result(rows: list[tuple[float, int]]) -> None:
    values_N = np.array([value for value, _ in rows])
    _, clusters_N = np.unique([image for _, image in rows], return_inverse=True)
    estimate = statistics.clustered_mean(values_N, clusters_N)
    if clusters_N.max() == 0:
        assert math.isnan(estimate.standard_error)
        return
    low, high = statistics.t_interval(estimate)
    assert estimate.standard_error >= 0 and low <= estimate.value <= high
