"""Scores as numbers: one row per question, one column per part, and which questions belong together.

Shape suffixes: N questions, P parts, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.data.groups import picture_groups
from sightline.records import Sample, Score
from sightline.scoring.metrics import Metric
from sightline.scoring.vqa import unparsed_confusion

ArmScores = Mapping[str, Score]
"""Sample id to score, for one model, data set, template and metric."""


def group_names(samples: Mapping[str, Sample]) -> dict[str, str]:
    """Name each question's group, over the whole data set: two may belong together through one not asked of."""
    return dict(zip(samples, picture_groups(list(samples.values())), strict=True))


def number_groups(groups: Mapping[str, str], sample_ids: Sequence[str]) -> np.ndarray:
    """Number the groups of questions from 0, in the order of the groups' names.

    Args:
        groups: from `group_names`.
        sample_ids: the questions.

    Returns:
        int64[N].
    """
    names = sorted({groups[name] for name in sample_ids})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[groups[name]] for name in sample_ids], dtype=np.int64)


def possible_ends(ends: tuple[Any, Any], unit: str, *, of_change: bool = False) -> tuple[float, float]:
    """Bring an interval's ends to what the number can be, which never loses the truth.

    Args:
        ends: as estimated.
        unit: of the metric: rates lie in [0, 1] and their differences in [-1, 1], losses and lengths are not negative.
        of_change: whether the ends are of a difference.
    """
    lowest = -math.inf if unit == "sd" or of_change else 0.0
    highest = math.inf
    if unit == "rate":
        lowest, highest = (-1.0 if of_change else 0.0), 1.0
    low, high = (min(highest, max(lowest, float(end))) for end in ends)
    return low, high


def part_names(metric: Metric, scores: Sequence[Score]) -> tuple[str, ...]:
    """Name the columns of `score_columns`: every part that any of the scores may bring, sorted."""
    if metric.kind == "mean":
        return ("value",)
    names = {name for score in scores for name in score.parts}
    for score in scores:
        if score.outcome == "unparsed":
            names |= {"tp", "fp", "fn", "tn"}
            break
    return tuple(sorted(names))


def score_columns(
    metric: Metric, scores: Sequence[Score], names: Sequence[str], *, unparsed_right: bool | None = None
) -> np.ndarray:
    """Turn scores into numbers that can be summed.

    Args:
        metric: the scores' metric.
        scores: N, "scored" or "unparsed".
        names: from `part_names`.
        unparsed_right: None counts unparsed answers by the primary rule (wrong); else as right or wrong throughout.

    Returns:
        float64[N, P].
    """
    if metric.kind == "mean":
        unread = float((unparsed_right is True) == metric.higher_is_better)
        values = [score.value if score.outcome == "scored" else unread for score in scores]
        return np.array(values, dtype=np.float64)[:, None]
    rows = [
        score.parts
        if score.outcome == "scored" or unparsed_right is None
        else unparsed_confusion(score.parts, right=unparsed_right)
        for score in scores
    ]
    columns_PN = np.array([[parts.get(name, 0.0) for parts in rows] for name in names], dtype=np.float64)
    return np.ascontiguousarray(columns_PN.reshape(len(names), len(rows)).T)


def combined(metric: Metric, names: Sequence[str], sums_BP: np.ndarray) -> np.ndarray:
    """Combine summed parts, float64[B, P], into a ratio metric's values, float64[B], nan where undefined."""
    if metric.combine is None:
        raise ValueError(f"metric {metric.name} is a mean of values and has nothing to combine")
    return metric.combine({name: sums_BP[:, column] for column, name in enumerate(names)})
