"""The best of several, chosen on the test set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sightline.scoring.metrics import METRICS
from sightline.verdict.compare import Comparison
from sightline.verdict.selection import gain_by_choice

Compare = Callable[..., dict[str, Any]]


def expected_best(number: int, correlation: float, standard_error: float) -> float:
    """Expected largest of equally correlated normals, by integration over the largest of independent ones."""
    grid = np.linspace(-8, 8, 20_001)
    density = number * stats.norm.pdf(grid) * stats.norm.cdf(grid) ** (number - 1)
    return float(np.sqrt(1 - correlation) * standard_error * np.trapezoid(grid * density, grid))


def test_six_variants_of_seed_noise_gain_what_theory_says() -> None:
    # Scores with sd 20, correlated .5 between models, 200 questions: each difference has standard error 1.41, and
    # any two share the baseline, so they correlate .5. The best of six then shows +1.26, and +2.28 in 20% of studies.
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(200_000, 1))
    replicates = np.sqrt(2.0) * (np.sqrt(0.5) * shared + np.sqrt(0.5) * generator.normal(size=(200_000, 6)))
    expected, p = gain_by_choice(replicates + 3.0, np.array([2.28, 0.01, -4.43, 0.0, 0.3, 1.0]))
    assert expected == pytest.approx(1.26, abs=0.01) == pytest.approx(expected_best(6, 0.5, np.sqrt(2.0)), abs=0.01)
    assert p == pytest.approx(0.20, abs=0.01)


def test_models_that_are_noise_are_warned_of(compare: Compare) -> None:
    generator = np.random.default_rng(1)
    shared = generator.normal(size=400)
    values = {name: (shared + generator.normal(size=400) > 0).astype(int).tolist() for name in ("base", *"abcdef")}
    stated = [Comparison(model=name, against="base") for name in "abcdef"]
    (warning,) = compare(values, images=range(400), stated=stated)["selection"]
    gains = {name: np.mean(values[name]) - np.mean(values["base"]) for name in "abcdef"}
    assert (warning["best"], warning["gain"]) == (max(gains, key=gains.__getitem__), pytest.approx(max(gains.values())))
    differences = np.array([np.array(values[name]) - np.array(values["base"]) for name in "abcdef"])
    covariance = np.cov(differences) / 400
    simulated = generator.multivariate_normal(np.zeros(6), covariance, size=50_000).max(axis=1)
    assert warning["expected"] == pytest.approx(simulated.mean(), rel=0.05)
    assert warning["p"] == pytest.approx((simulated >= max(gains.values())).mean(), abs=0.03)
    assert "with no effect in any, the best of 6 would seem better by" in warning["sentence"]
    assert warning["title"] == "6 models against base, closed_accuracy on d"


def test_losses_are_better_where_they_are_lower(compare: Compare) -> None:
    generator = np.random.default_rng(2)
    losses = generator.gamma(2.0, 0.5, size=120)
    values = {
        name: [{"nll": float(x), "tokens": 2.0} for x in losses * generator.uniform(low, high, size=120)]
        for name, low, high in (("base", 0.95, 1.05), ("a", 0.7, 1.0), ("b", 1.0, 1.3))
    }
    stated = [Comparison(model="a", against="base")]
    (warning,) = compare(values, images=range(120), metric=METRICS["nll"], stated=stated)["selection"]
    assert (warning["best"], warning["models"]) == ("a", ["a", "b"])
    assert warning["gain"] > 0 and warning["p"] < 0.001


@pytest.mark.parametrize("models", [["base", "a"], ["base", "a", "a~1"], ["base", "a", "a~1@0"]])
def test_one_model_and_its_stages_are_no_choice(compare: Compare, models: list[str]) -> None:
    generator = np.random.default_rng(3)
    values = {name: generator.integers(0, 2, 60).tolist() for name in models}
    compared = compare(values, images=range(60), stated=[Comparison(model="a", against="base")])
    assert compared["selection"] == []


def test_where_nothing_is_above_the_baseline_there_is_no_gain_to_explain(compare: Compare) -> None:
    right = [1] * 50 + [0] * 10
    values = {"base": right, "a": [0, *right[1:]], "b": [0, 0, *right[2:]]}
    (warning,) = compare(values, images=range(60), stated=[Comparison(model="a", against="base")])["selection"]
    assert warning["sentence"] == "none of the 2 is above it."
