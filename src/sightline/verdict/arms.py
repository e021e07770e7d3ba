"""One arm by itself: a model's number on a data set, its interval, and what a constant answer would have got."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sightline.errors import DataError
from sightline.records import Answer, Sample, Score
from sightline.scoring.metric import Ratio
from sightline.scoring.metrics import CLOSED_METRICS, Metric
from sightline.scoring.normalise import normalise
from sightline.verdict import statistics
from sightline.verdict.columns import (
    ArmScores,
    combined,
    group_names,
    number_groups,
    part_names,
    possible_ends,
    score_columns,
)
from sightline.verdict.pairs import MIN_GROUPS, vanishes
from sightline.verdict.resampling import cluster_bootstrap

FEW_IMAGES = f"fewer than {MIN_GROUPS} independent groups of images"
SAME_EVERYWHERE = "the same on every image"
UNDEFINED = "undefined without some of the images"
"""Why an arm's number stands without an interval."""


def scores_by_id(samples: Mapping[str, Sample], scores: Iterable[Score], *, arm: str) -> dict[str, Score]:
    """Index an arm's scores by sample, sorted.

    Args:
        samples: the data set.
        scores: by one metric.
        arm: who answered, for messages.

    Raises:
        DataError: a sample scored twice, one that the data do not hold, or a score that is no finite number.
    """
    by_id: dict[str, Score] = {}
    for score in scores:
        if score.sample_id in by_id:
            raise DataError(f"{arm}: sample {score.sample_id!r} has two scores by {score.metric}; keep one")
        if score.sample_id not in samples:
            raise DataError(
                f"{arm}: a score by {score.metric} for sample {score.sample_id!r}, which is not in the data; "
                "score the answers against the rows they were asked about"
            )
        numbers = [*score.parts.values(), *([] if score.value is None else [score.value])]
        if score.outcome == "scored" and not (numbers and all(map(math.isfinite, numbers))):
            raise DataError(
                f"{arm}: sample {score.sample_id!r} is scored {score.value} {dict(score.parts)} by {score.metric}; "
                "a score is a finite number, or says why there is none"
            )
        by_id[score.sample_id] = score
    return dict(sorted(by_id.items()))


def describe_arm(
    samples: Mapping[str, Sample],
    metrics: Sequence[Metric],
    scores: Mapping[str, ArmScores],
    *,
    model: str,
    data: str,
    template: str,
    seed: int,
    alpha: float,
    groups: Mapping[str, str] | None = None,
    seen: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe a model on a data set: how much was asked, and its value and interval by each metric.

    Args:
        samples: the data set.
        metrics: in the study's order.
        scores: metric name to its scores.
        model: its name.
        data: the set's name.
        template: the wording's name.
        seed: of resampling.
        alpha: one minus the intervals' coverage.
        groups: `group_names(samples)`, where the caller has them.
        seen: sample id to how training has seen it; values without these are given besides.
    """
    groups, seen = groups or group_names(samples), seen or {}

    def measure(metric: Metric) -> dict[str, Any]:
        by_id = scores[metric.name]
        measured = _measure(groups, metric, by_id, seed=seed, alpha=alpha)
        clean = {name: score for name, score in by_id.items() if name not in seen}
        if len(clean) == len(by_id):
            return measured | {"clean": None}
        beside = _measure(groups, metric, clean, seed=seed, alpha=alpha)
        return measured | {"clean": {key: beside[key] for key in ("value", "interval", "num_scored", "num_unparsed")}}

    answered = sorted({name for by_id in scores.values() for name in by_id})
    per_image = Counter(sha256 for name in answered for sha256 in {p.sha256 for p in samples[name].pictures})
    return {
        "model": model,
        "data": data,
        "template": template,
        "num_questions": len(answered),
        "num_images": len(per_image),
        "num_groups": len(set(number_groups(groups, answered).tolist())),
        "max_questions_per_image": max(per_image.values(), default=0),
        "metrics": {metric.name: measure(metric) for metric in metrics if metric.name in scores},
    }


def majority_baselines(data: str, samples: Mapping[str, Sample], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Score the constant answer that is most often right, for every closed metric.

    A model that does not beat it may have looked at no picture at all.
    """
    baselines = []
    for metric in metrics:
        if metric.name not in CLOSED_METRICS or metric.score is None:
            continue
        asked = [samples[name] for name in sorted(samples)]
        asked = [sample for sample in asked if _applies(metric, sample)]
        if not asked:
            continue
        counts = Counter(normalise(sample.answer) for sample in asked)
        constant = min(counts, key=lambda text: (-counts[text], text))
        scores = [metric.score(sample, _constant_answer(sample, constant)) for sample in asked]
        baselines.append({"data": data, "metric": metric.name, "value": arm_value(metric, scores), "answer": constant})
    return baselines


def arm_value(metric: Metric, scores: Sequence[Score]) -> float | None:
    """Compute a metric's value over "scored" and "unparsed" scores, the latter counted wrong; None if undefined."""
    if not scores:
        return None
    names = part_names(metric, scores)
    columns_NP = score_columns(metric, scores, names)
    value = columns_NP.mean() if metric.kind == "mean" else combined(metric, names, columns_NP.sum(axis=0)[None, :])[0]
    return None if math.isnan(value) else float(value)


def _measure(groups: Mapping[str, str], metric: Metric, by_id: ArmScores, *, seed: int, alpha: float) -> dict[str, Any]:
    outcomes = Counter(score.outcome for score in by_id.values())
    counted = {name: score for name, score in by_id.items() if score.outcome in ("scored", "unparsed")}
    scores = list(counted.values())
    interval: list[float] | str = "nothing is counted"
    if scores:
        interval = _interval(metric, scores, number_groups(groups, list(counted)), seed=seed, alpha=alpha)
    return {
        "value": arm_value(metric, scores),
        "interval": None if isinstance(interval, str) else interval,
        "no_interval": interval if isinstance(interval, str) else "",
        "num_counted": _num_counted(metric, scores),
        "num_scored": outcomes["scored"],
        "num_unparsed": outcomes["unparsed"],
        "num_failed": outcomes["failed"],
        "num_not_applicable": outcomes["not_applicable"],
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "neutral": metric.neutral,
        "title": metric.title,
        "kind": metric.kind,
    }


def _num_counted(metric: Metric, scores: Sequence[Score]) -> int:
    """Count the answers that a value rests on: of precision, those that said yes."""
    if not isinstance(metric.combine, Ratio):
        return len(scores)
    parts = [name for name, weight in metric.combine.denominator.items() if weight]
    return sum(any(score.parts.get(name) for name in parts) for score in scores)


def _interval(
    metric: Metric, scores: Sequence[Score], clusters_N: np.ndarray, *, seed: int, alpha: float
) -> list[float] | str:
    """Wilson on the effective number of questions for what is right or wrong, t for other means, BCa for ratios.

    Returns:
        both ends, or why there are none.
    """
    names = part_names(metric, scores)
    columns_NP = score_columns(metric, scores, names)
    if int(clusters_N.max()) + 1 < MIN_GROUPS:
        return FEW_IMAGES
    if metric.kind == "ratio":
        columns_GP = statistics.cluster_sums(columns_NP.T, clusters_N).T
        bootstrap = cluster_bootstrap(
            columns_GP, lambda sums_BP: combined(metric, names, sums_BP), seed=seed, alpha=alpha
        )
        low, high, spread = bootstrap.low, bootstrap.high, bootstrap.standard_error
        if math.isnan(low) or math.isnan(high):
            return UNDEFINED
    elif np.isin(values_N := columns_NP[:, 0], (0.0, 1.0)).all() and metric.unit == "rate":
        number = statistics.effective_number(values_N, clusters_N)
        return [float(end) for end in statistics.wilson_interval(float(values_N.mean()), number, alpha=alpha)]
    else:
        estimate = statistics.clustered_mean(values_N, clusters_N)
        (low, high), spread = statistics.t_interval(estimate, alpha=alpha), float(estimate.standard_error)
    if vanishes(spread, columns_NP) or vanishes(high - low, columns_NP):
        return SAME_EVERYWHERE
    return list(possible_ends((low, high), metric.unit))


def _constant_answer(sample: Sample, text: str) -> Answer:
    return Answer(sample_id=sample.id, model="majority answer", data="", text=text, finish_reason="stop", num_tokens=0)


def _applies(metric: Metric, sample: Sample) -> bool:
    if metric.score is None:
        return False
    return metric.score(sample, _constant_answer(sample, "")).outcome != "not_applicable"
