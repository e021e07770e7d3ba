"""What a question's scores count up to: questions, images, what was fixed and broken, what unread answers hide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.records import Score
from sightline.scoring.metrics import Metric
from sightline.verdict.columns import combined, part_names, score_columns
from sightline.verdict.pairs import Difference, Pairs, Refusal


def counts_of(metric: Metric, pairs: Pairs | Refusal) -> dict[str, Any]:
    """Count questions, images, changes and unparsed answers; over several runs, changes are of the average.

    Where no pairs could be made there is nothing to count: None, which is not 0.
    """
    if isinstance(pairs, Refusal):
        return {
            "num_questions": None,
            "num_images": None,
            "num_groups": None,
            "binary": False,
            "fixed": None,
            "broke": None,
            "fixed_ids": [],
            "broke_ids": [],
            "unparsed": {"model": 0, "against": 0},
            "num_failed": 0,
        }
    gain_SN = _goodness(metric, pairs.model) - _goodness(metric, pairs.against)
    gain_N = gain_SN.mean(axis=0)
    fixed_ids = [name for name, gain in zip(pairs.sample_ids, gain_N, strict=True) if gain > 1e-12]
    broke_ids = [name for name, gain in zip(pairs.sample_ids, gain_N, strict=True) if gain < -1e-12]
    return {
        "num_questions": len(pairs.sample_ids),
        "num_images": pairs.num_images,
        "num_groups": pairs.num_groups,
        "binary": len(pairs.model) == 1 and bool(np.isin(gain_N, (-1.0, 0.0, 1.0)).all()),
        "fixed": len(fixed_ids),
        "broke": len(broke_ids),
        "fixed_ids": fixed_ids,
        "broke_ids": broke_ids,
        "unparsed": num_unparsed(pairs),
        "num_failed": pairs.num_failed,
    }


def _goodness(metric: Metric, rows: Sequence[Sequence[Score]]) -> np.ndarray:
    """Rate each single answer, higher being better; float64[S, N].

    By value where the metric is a mean; right or wrong where it counts true and false positives; else by the
    answer's own ratio, e.g. its loss per token.
    """
    everything = [score for row in rows for score in row]
    names = part_names(metric, everything)
    columns_NP = score_columns(metric, everything, names)
    if metric.kind == "mean":
        values = columns_NP[:, 0]
    elif {"tp", "tn", "fp", "fn"}.intersection(names):
        unparsed = np.array([score.outcome == "unparsed" for score in everything])
        right = sum(
            (columns_NP[:, names.index(name)] for name in ("tp", "tn") if name in names), np.zeros(len(unparsed))
        )
        values = np.where(unparsed, 0.0, right)
    else:
        sums = {name: columns_NP[:, column] for column, name in enumerate(names)}
        values = np.nan_to_num(metric.combine(sums)) if metric.combine else np.zeros(len(everything))
    return (values if metric.higher_is_better else -values).reshape(len(rows), -1)


def num_unparsed(pairs: Pairs) -> dict[str, int]:
    """Count the answers of each side from which nothing could be read, over all runs."""
    return {
        side: sum(score.outcome == "unparsed" for row in rows for score in row)
        for side, rows in (("model", pairs.model), ("against", pairs.against))
    }


def bounds_of_unparsed(metric: Metric, pairs: Pairs) -> tuple[float, float] | None:
    """Compute the difference if unparsed answers had been as they suit one side best: its own right, the other's wrong.

    Returns:
        the lowest and the highest; None where the metric is undefined there.
    """
    names = part_names(metric, [score for row in (*pairs.model, *pairs.against) for score in row])

    def value(rows: tuple[tuple[Score, ...], ...], right: bool) -> float:
        columns_SNP = np.stack([score_columns(metric, row, names, unparsed_right=right) for row in rows])
        if metric.kind == "mean":
            return float(columns_SNP.mean())
        return float(combined(metric, names, columns_SNP.sum(axis=1)).mean())

    low, high = sorted(value(pairs.model, right) - value(pairs.against, not right) for right in (False, True))
    return None if math.isnan(low + high) else (low, high)


def num_read(pairs: Pairs) -> int:
    """Count the questions to which every answer of both sides could be read."""
    answers = zip(*pairs.model, *pairs.against, strict=True)
    return sum(all(score.outcome == "scored" for score in scores) for scores in answers)


def brief(found: Difference | Refusal | None) -> dict[str, Any] | None:
    """Give a difference beside the main one: its numbers, or None where it could not be estimated."""
    if not isinstance(found, Difference):
        return None
    return {
        "difference": found.value,
        "interval": list(found.interval),
        "p": found.p,
        "num_questions": found.num_questions,
        "num_groups": found.num_groups,
    }


def seen_counts(seen: Mapping[str, str], pairs: Pairs) -> dict[str, int]:
    """Count the questions that training has seen, by how: the row itself, its image, or one nearly like it."""
    found = Counter(seen[name] for name in pairs.sample_ids if name in seen)
    return {how: found[how] for how in sorted(found)}
