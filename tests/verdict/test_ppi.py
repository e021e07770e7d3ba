"""Judge scores corrected with people's labels."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.verdict.ppi import corrected_mean
from sightline.verdict.statistics import clustered_mean, t_interval


def test_by_hand() -> None:
    # Four labelled (two judged wrongly), four judged alone, each an image of its own.
    labels = np.array([1, 0, 1, 0, *[np.nan] * 4])
    judged = np.array([1, 1, 1, 0, 1, 1, 0, 1], dtype=float)
    found = corrected_mean(labels, judged, np.arange(8))
    own = np.array([0.5, -0.5, 0.5, -0.5, 0, 0, 0, 0]) / 4
    others = np.array([0.25, 0.25, 0.25, -0.75, -0.25, -0.25, 0.75, -0.25]) / 4
    weight = (own @ others) / (others @ others)
    assert found.weight == pytest.approx(weight) == pytest.approx(1 / 3)
    assert found.estimate.value == pytest.approx(0.5 + weight * (0.75 - 0.75))
    residuals = own - weight * others
    assert found.estimate.standard_error == pytest.approx(np.sqrt(4 / 3 * residuals @ residuals))
    assert (found.judged, found.num_labels, found.estimate.degrees_of_freedom) == (0.75, 4, 3)


def test_the_weight_is_ppi_plus_plus_for_single_questions() -> None:
    # Equation of the tuned weight for means: Cov(Y, f) / ((1 + n / N) Var(f)), here with each part's own variance.
    generator = np.random.default_rng(0)
    judged = generator.normal(size=5_000)
    labels = 0.6 * judged + generator.normal(size=5_000)
    labels[1_000:] = np.nan
    covariance = np.cov(labels[:1_000], judged[:1_000])
    assert corrected_mean(labels, judged, np.arange(5_000)).weight == pytest.approx(
        covariance[0, 1] / ((1 + 1_000 / 4_000) * np.var(judged)), rel=0.05
    )


def test_labels_alone_where_everything_is_labelled_or_the_judge_says_the_same_of_all() -> None:
    generator = np.random.default_rng(1)
    labels, clusters = generator.integers(0, 2, 90).astype(float), np.arange(90) // 3
    alone = clustered_mean(labels, clusters)
    for judged in (labels, np.ones(90)):
        assert corrected_mean(labels, judged, clusters).estimate == pytest.approx(alone)


def test_duplicated_rows_of_an_image_tell_nothing_new() -> None:
    generator = np.random.default_rng(2)
    labels, judged = generator.integers(0, 2, 60).astype(float), generator.integers(0, 2, 60).astype(float)
    labels[30:] = np.nan
    once = corrected_mean(labels, judged, np.arange(60))
    twice = corrected_mean(np.tile(labels, 2), np.tile(judged, 2), np.tile(np.arange(60), 2))
    assert twice.estimate == pytest.approx(once.estimate, abs=1e-14)


def test_one_labelled_image_is_refused() -> None:
    with pytest.raises(ValueError, match="labels on 1 images"):
        corrected_mean(np.array([1.0, np.nan, np.nan]), np.ones(3), np.arange(3))


@pytest.mark.parametrize(
    ("num_judged", "quality", "judge_coverage", "width"),
    [(451, (0.9, 0.8), 0.44, 0.153), (2_248, (0.9, 0.8), 0.002, 0.141), (451, (0.95, 0.95), None, 0.1145)],
)
def test_a_biased_judge_misleads_and_the_corrected_mean_covers(
    num_judged: int, quality: tuple[float, float], judge_coverage: float | None, width: float
) -> None:
    # Widths by theory: 4 standard errors of the mean of 100 labels, times 1 - N / (n + N) rho^2 under the root, rho
    # being the correlation of judge and label: .70 and .90 here.
    generator = np.random.default_rng(3)
    sensitivity, specificity = quality
    covered, judge_covered, widths = 0, 0, []
    for _ in range(1_000):
        truth = (generator.random(100 + num_judged) < 0.5).astype(float)
        says_right = np.where(truth == 1, sensitivity, 1 - specificity)
        judged = (generator.random(len(truth)) < says_right).astype(float)
        labels = np.where(np.arange(len(truth)) < 100, truth, np.nan)
        low, high = t_interval(corrected_mean(labels, judged, np.arange(len(truth))).estimate)
        covered += low <= 0.5 <= high
        widths.append(high - low)
        low, high = t_interval(clustered_mean(judged[100:], np.arange(num_judged)))
        judge_covered += low <= 0.5 <= high
    assert covered / 1_000 == pytest.approx(0.948, abs=0.025)
    assert np.mean(widths) == pytest.approx(width, abs=0.003)
    if judge_coverage is not None:
        assert judge_covered / 1_000 == pytest.approx(judge_coverage, abs=0.06)
