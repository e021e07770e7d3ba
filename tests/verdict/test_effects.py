"""A grid's factors: main effects and interactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from sightline.scoring.metrics import METRICS
from sightline.verdict import statistics
from sightline.verdict.effects import Factorial

Compare = Callable[..., dict[str, Any]]

GRID = Factorial(
    step="sft",
    factors={"lora.alpha": ("16", "8"), "lora.dropout": ("0.05", "0.1")},
    models={
        ("16", "0.05"): "sft.sft1",
        ("8", "0.05"): "sft.sft2",
        ("16", "0.1"): "sft.sft3",
        ("8", "0.1"): "sft.sft4",
    },
)
IMAGES = [question % 40 for question in range(160)]


def invented(seeds: tuple[int, ...] = ()) -> dict[str, list[float]]:
    """Scores of base and the four members; less with dropout .1, and least with both changes."""
    generator = np.random.default_rng(5)
    difficulty = generator.normal(size=160)
    rows = {"base": (difficulty > 0).astype(float).tolist()}
    for (alpha, dropout), name in GRID.models.items():
        skill = 0.9 - 0.5 * (dropout == "0.1") - 0.6 * (alpha == "8" and dropout == "0.1")
        for seed in seeds or (None,):
            right = difficulty + generator.normal(skill, 0.8, size=160) > 0
            rows[name if seed is None else f"{name}@{seed}"] = right.astype(float).tolist()
    return rows


def effects(compare: Compare, rows: dict[str, Any], grid: Factorial = GRID, **more: Any) -> dict[str, dict[str, Any]]:
    found = compare(rows, images=more.pop("images", IMAGES), stated=[], factorials=[grid], **more)["effects"]
    return {entry["title"]: entry for entry in found}


ALPHA = "lora.alpha 8 instead of 16, averaged over lora.dropout, closed_accuracy on d"
DROPOUT = "lora.dropout 0.1 instead of 0.05, averaged over lora.alpha, closed_accuracy on d"
BOTH = "the effect of lora.alpha 8 instead of 16, with lora.dropout 0.1 less with 0.05, closed_accuracy on d"


def test_a_two_by_two_grid_agrees_with_clustered_regression(compare: Compare) -> None:
    rows = invented()
    found = effects(compare, rows)
    assert list(found) == [ALPHA, DROPOUT, BOTH]
    cells = {key: np.array(rows[name]) for key, name in GRID.models.items()}
    contrasts = {
        ALPHA: (cells["8", "0.05"] - cells["16", "0.05"] + cells["8", "0.1"] - cells["16", "0.1"]) / 2,
        DROPOUT: (cells["16", "0.1"] - cells["16", "0.05"] + cells["8", "0.1"] - cells["8", "0.05"]) / 2,
        BOTH: cells["8", "0.1"] - cells["16", "0.1"] - (cells["8", "0.05"] - cells["16", "0.05"]),
    }
    for title, contrast in contrasts.items():
        oracle = OLS(contrast, np.ones(160)).fit(cov_type="cluster", cov_kwds={"groups": np.array(IMAGES)}, use_t=True)
        entry = found[title]
        assert entry["difference"] == pytest.approx(oracle.params[0], abs=1e-10)
        assert entry["standard_error"] == pytest.approx(oracle.bse[0], abs=1e-10)
        assert entry["interval"] == pytest.approx(oracle.conf_int()[0], abs=1e-10)
        assert entry["p"] == pytest.approx(oracle.pvalues[0], abs=1e-10)
    p = [entry["p"] for entry in found.values()]
    assert [entry["p_adjusted"] for entry in found.values()] == pytest.approx(statistics.holm(p))


def test_an_interaction_has_no_better_direction(compare: Compare) -> None:
    found = effects(compare, invented())
    assert [entry["kind"] for entry in found.values()] == ["main effect", "main effect", "interaction"]
    assert found[DROPOUT]["verdict"] == "regressed"
    assert found[BOTH]["neutral"] and found[BOTH]["verdict"] in ("changed", "no detectable difference")
    assert "better on" not in found[BOTH]["sentence"]


def test_seeds_are_runs_and_cells_are_not(compare: Compare) -> None:
    seeds = (0, 1, 2)
    rows = invented(seeds)
    entry = effects(compare, rows)[DROPOUT]
    by_seed = np.array(
        [
            np.mean(
                [
                    np.subtract(rows[f"{high}@{s}"], rows[f"{low}@{s}"])
                    for low, high in (("sft.sft1", "sft.sft3"), ("sft.sft2", "sft.sft4"))
                ],
                axis=0,
            )
            for s in seeds
        ]
    )
    estimate = statistics.clustered_mean(by_seed.mean(axis=0), np.array(IMAGES))
    estimate = statistics.add_seed_variance(estimate, by_seed.mean(axis=1).tolist())
    assert entry["difference"] == pytest.approx(estimate.value)
    assert entry["standard_error"] == pytest.approx(estimate.standard_error)
    assert entry["seeds"] == [0, 1, 2] and "Average over 3 training runs" in entry["sentence"]


def test_ratios_have_effects_too(compare: Compare) -> None:
    rows = {name: [{"nll": 1.5 - value, "tokens": 2.0} for value in row] for name, row in invented().items()}
    entry = effects(compare, rows, metric=METRICS["nll"])[DROPOUT.replace("closed_accuracy", "nll")]
    cells = {key: np.mean([row["nll"] for row in rows[name]]) / 2 for key, name in GRID.models.items()}
    by_hand = (cells["16", "0.1"] - cells["16", "0.05"] + cells["8", "0.1"] - cells["8", "0.05"]) / 2
    assert entry["difference"] == pytest.approx(by_hand)
    assert entry["interval"][0] < by_hand < entry["interval"][1]


def test_three_values_are_each_held_against_the_first(compare: Compare) -> None:
    rows = invented()
    grid = Factorial(
        step="sft",
        factors={"lora.rank": ("4", "8", "16")},
        models={("4",): "sft.sft1", ("8",): "sft.sft2", ("16",): "sft.sft3"},
    )
    found = effects(compare, rows, grid)
    assert list(found) == [f"lora.rank {rank} instead of 4, closed_accuracy on d" for rank in (8, 16)]


def test_a_member_that_was_not_asked_has_no_effect(compare: Compare) -> None:
    rows = invented()
    del rows["sft.sft4"]
    assert effects(compare, rows) == {}
