"""Do the tests hold their promised error rates? Simulated studies in which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sightline.verdict.resampling import cluster_bootstrap, sign_flip_p
from sightline.verdict.statistics import cluster_sums, clustered_mean, t_interval, t_p


def simulate(
    *, num_studies: int, num_questions: int, num_images: int, effect: float, image_effect: float, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Simulate two models on the same questions, their skill on each image differing by chance.

    Args:
        effect: mean advantage of the second model, in standard deviations of a question's difficulty.
        image_effect: standard deviation of each model's skill from image to image.

    Returns:
        differences, float64[studies, N]; clusters, int64[N]; the true mean difference.
    """
    generator = np.random.default_rng(seed)
    more = generator.integers(num_images, size=num_questions - num_images)
    clusters_N = np.concatenate([np.arange(num_images), more])
    shared = generator.normal(size=(num_studies, num_questions))
    right = []
    for advantage in (0.0, effect):
        skill = generator.normal(0, image_effect, size=(num_studies, num_images))[:, clusters_N]
        chance = generator.normal(size=(num_studies, num_questions))
        right.append((advantage + skill + shared + chance > 0).astype(np.float64))
    truth = float(stats.norm.cdf(effect / np.sqrt(2 + image_effect**2)) - 0.5)
    return right[1] - right[0], clusters_N, truth


def test_false_alarms_and_coverage_at_the_size_of_vqa_rad() -> None:
    difference, clusters_N, _ = simulate(
        num_studies=10_000, num_questions=451, num_images=203, effect=0.0, image_effect=0.5, seed=1
    )
    estimate = clustered_mean(difference, clusters_N)
    assert 0.043 < (t_p(estimate) < 0.05).mean() < 0.057
    low, high = t_interval(estimate)
    assert 0.943 < ((low <= 0) & (high >= 0)).mean() < 0.957


@pytest.mark.parametrize(
    ("num_questions", "num_images", "num_studies"), [(120, 20, 10_000), (2_248, 315, 2_000), (3_000, 500, 2_000)]
)
def test_false_alarms_stay_at_alpha_where_independence_would_double_them(
    num_questions: int, num_images: int, num_studies: int
) -> None:
    difference, clusters_N, _ = simulate(
        num_studies=num_studies,
        num_questions=num_questions,
        num_images=num_images,
        effect=0.0,
        image_effect=1.0,
        seed=2,
    )
    # Four standard errors of a rate of .05 around it.
    slack = 4 * np.sqrt(0.05 * 0.95 / num_studies)
    assert (t_p(clustered_mean(difference, clusters_N)) < 0.05).mean() == pytest.approx(0.05, abs=slack)
    as_if_independent = clustered_mean(difference, np.arange(num_questions))
    assert (t_p(as_if_independent) < 0.05).mean() > 0.10


def test_coverage_of_a_true_difference() -> None:
    difference, clusters_N, truth = simulate(
        num_studies=4_000, num_questions=451, num_images=203, effect=0.4, image_effect=0.5, seed=3
    )
    assert truth > 0.09
    low, high = t_interval(clustered_mean(difference, clusters_N))
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.014)


def test_sign_flips_hold_alpha() -> None:
    difference, clusters_N, _ = simulate(
        num_studies=400, num_questions=120, num_images=20, effect=0.0, image_effect=1.0, seed=4
    )
    rate = np.mean([sign_flip_p(cluster_sums(row, clusters_N), seed=0) < 0.05 for row in difference])
    assert rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.slow
def test_bootstrap_intervals_of_a_ratio_cover() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(600):
        tokens_G = generator.integers(1, 12, size=80).astype(float)
        loss_G = tokens_G * generator.gamma(2.0, 0.5, size=80)
        found = cluster_bootstrap(
            np.stack([loss_G, tokens_G], axis=1), lambda sums_BC: sums_BC[:, 0] / sums_BC[:, 1], seed=0
        )
        covered += found.low <= 1.0 <= found.high
    assert covered / 600 == pytest.approx(0.95, abs=0.03)
