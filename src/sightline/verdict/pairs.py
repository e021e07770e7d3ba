"""Two arms, question by question: which questions both answered, and what their difference is.

Questions that share a picture, directly or through others, form a group: what a verdict takes for independent.

Shape suffixes: N questions, G groups, S seeds (training runs), P parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sightline.data.groups import picture_groups
from sightline.records import Sample, Score
from sightline.scoring.metrics import Metric
from sightline.scoring.vqa import unparsed_confusion
from sightline.verdict import statistics
from sightline.verdict.resampling import cluster_bootstrap, label_swap_p, sign_flip_p
from sightline.verdict.sentences import about_images

Rule = Literal["wrong", "left_out", "for_model", "for_against"]
"""How unparsed answers count: wrong (the primary rule); their questions left out; as they would suit one side best
(its own right, the other's wrong)."""

RULES: tuple[Rule, ...] = ("wrong", "left_out", "for_model", "for_against")

MIN_GROUPS = 5
MAX_FAILED = 0.01
MAX_UNDEFINED = 0.01

ArmScores = Mapping[str, Score]
"""Sample id to score, for one model, data set, template and metric."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no verdict is possible.

    Args:
        reason: from the fixed list in design/verdicts.md.
        detail: what was found, for the sentence.
    """

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Scores of two arms, matched; S runs on each side, an arm with one run standing against each of them.

    Args:
        sample_ids: N, sorted.
        clusters_N: int64[N], the group of each question, groups numbered in the order of their names.
        pictures: of each question, by hash.
        model: S rows of N scores.
        against: S rows of N scores.
        num_failed: questions left out because a scorer failed on one of their answers.
    """

    sample_ids: tuple[str, ...]
    clusters_N: np.ndarray
    pictures: tuple[frozenset[str], ...]
    model: tuple[tuple[Score, ...], ...]
    against: tuple[tuple[Score, ...], ...]
    num_failed: int

    @property
    def num_images(self) -> int:
        """Distinct pictures among the questions."""
        return len(frozenset().union(*self.pictures))

    @property
    def num_groups(self) -> int:
        """Groups of questions that share no picture."""
        return len(set(self.clusters_N.tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Model minus against, in the metric's own unit, with everything a verdict needs.

    Args:
        value: the difference.
        interval: 95%, or whatever alpha says.
        standard_error: of the difference.
        degrees_of_freedom: of its t distribution.
        p: T1, two-sided.
        p_check: T2, two-sided.
        p_check_method: "sign-flip", "McNemar" or "label-swap".
        method: how the interval was made.
        num_questions: compared.
        num_groups: they form.
    """

    value: float
    interval: tuple[float, float]
    standard_error: float
    degrees_of_freedom: float
    p: float
    p_check: float
    p_check_method: str
    method: str
    num_questions: int
    num_groups: int


def pair_scores(
    samples: Mapping[str, Sample], metric: Metric, model: Sequence[ArmScores], against: Sequence[ArmScores]
) -> Pairs | Refusal:
    """Match two arms by sample id, never by position.

    Args:
        samples: the data set.
        metric: the scores' metric.
        model: one mapping per training run.
        against: likewise; a single one stands against every run of the other side.
    """
    num_runs = max(len(model), len(against))
    sides = [tuple(side) * (num_runs // len(side)) for side in (model, against)]
    arms = [arm for side in sides for arm in side]
    ids = [{name for name, score in arm.items() if score.outcome != "not_applicable"} for arm in arms]
    everywhere, anywhere = set.intersection(*ids), set.union(*ids)
    if not anywhere:
        return Refusal("nothing scored", "no question is one for this metric")
    if everywhere != anywhere:
        only = [len(set.union(*ids[:num_runs]) - everywhere), len(set.union(*ids[num_runs:]) - everywhere)]
        return Refusal("unmatched samples", f"{only[0]} only in the model, {only[1]} only in what it is held against")
    failed = {name for name in anywhere for arm in arms if arm[name].outcome == "failed"}
    if len(failed) > MAX_FAILED * len(anywhere):
        return Refusal("judge failures > 1%", f"{len(failed)} of {len(anywhere)} questions have no score")
    sample_ids = tuple(sorted(anywhere - failed))
    pairs = Pairs(
        sample_ids=sample_ids,
        clusters_N=number_groups(samples, sample_ids),
        pictures=tuple(frozenset(picture.sha256 for picture in samples[name].pictures) for name in sample_ids),
        model=tuple(tuple(arm[name] for name in sample_ids) for arm in sides[0]),
        against=tuple(tuple(arm[name] for name in sample_ids) for arm in sides[1]),
        num_failed=len(failed),
    )
    return _unlike(metric, pairs) or pairs


def number_groups(samples: Mapping[str, Sample], sample_ids: Sequence[str]) -> np.ndarray:
    """Number the groups of questions from 0, in the order of the groups' names.

    Args:
        samples: the whole data set: two questions may belong together through one that is not asked of.
        sample_ids: the questions.

    Returns:
        int64[N].
    """
    groups = dict(zip(samples, picture_groups(list(samples.values())), strict=True))
    names = sorted({groups[name] for name in sample_ids})
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[groups[name]] for name in sample_ids], dtype=np.int64)


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
    columns_NP = np.zeros((len(scores), len(names)))
    places = {name: column for column, name in enumerate(names)}
    for row, score in enumerate(scores):
        if metric.kind == "mean":
            right = score.outcome == "unparsed" and unparsed_right is True
            value = score.value if score.outcome == "scored" else float(right == metric.higher_is_better)
            columns_NP[row, 0] = math.nan if value is None else value
            continue
        parts = score.parts
        if score.outcome == "unparsed" and unparsed_right is not None:
            parts = unparsed_confusion(parts, right=unparsed_right)
        for name, part in parts.items():
            columns_NP[row, places[name]] = part
    return columns_NP


def estimate_difference(
    metric: Metric, pairs: Pairs, rule: Rule, *, seed: int = 0, alpha: float = 0.05
) -> Difference | Refusal:
    """Estimate model minus against, with interval and both tests.

    Means: clustered t on the paired differences (T1), sign flips of whole groups or McNemar (T2). Ratios: paired
    cluster bootstrap, BCa (T1), label swaps of whole groups (T2). Several training runs: each question's difference
    is averaged over them and the variance between runs is added.
    """
    rows = (*pairs.model, *pairs.against)
    if not any(score.outcome == "scored" for row in rows for score in row):
        unread = f"none of the answers to {len(pairs.sample_ids):,} questions could be read, on either side"
        return Refusal("nothing scored", f"{unread}; by itself, each model has them counted as wrong")
    keep = np.ones(len(pairs.sample_ids), dtype=bool)
    if rule == "left_out":
        keep = np.array([all(row[i].outcome == "scored" for row in rows) for i in range(len(keep))], dtype=bool)
    if not keep.any():
        return Refusal("nothing scored", "no question has an answer that could be read from both")
    _, clusters_N = np.unique(pairs.clusters_N[keep], return_inverse=True)
    if (num_groups := int(clusters_N.max()) + 1) < MIN_GROUPS:
        num_images = len(frozenset().union(*itertools.compress(pairs.pictures, keep)))
        return Refusal(f"G < {MIN_GROUPS}", f"the questions are about {about_images(num_images, num_groups)} only")
    names = part_names(metric, [score for row in rows for score in row])
    right = {"wrong": (None, None), "left_out": (None, None), "for_model": (True, False), "for_against": (False, True)}
    model_SNP, against_SNP = (
        np.stack([score_columns(metric, row, names, unparsed_right=side)[keep] for row in rows])
        for rows, side in zip((pairs.model, pairs.against), right[rule], strict=True)
    )
    if metric.kind == "mean":
        return _mean_difference(model_SNP[..., 0], against_SNP[..., 0], clusters_N, seed=seed, alpha=alpha)
    return _ratio_difference(metric, names, model_SNP, against_SNP, clusters_N, seed=seed, alpha=alpha)


def _unlike(metric: Metric, pairs: Pairs) -> Refusal | None:
    """Refuse losses over different tokens: their units differ."""
    if metric.unit != "nats":
        return None
    arms = zip(*pairs.model, *pairs.against, strict=True)
    differing = sum(len({score.parts.get("tokens") for score in scores}) > 1 for scores in arms)
    if not differing:
        return None
    return Refusal("different tokenizers", f"the two count different tokens in {differing} reference answers")


def _mean_difference(
    model_SN: np.ndarray, against_SN: np.ndarray, clusters_N: np.ndarray, *, seed: int, alpha: float
) -> Difference | Refusal:
    difference_SN = model_SN - against_SN
    difference_N = difference_SN.mean(axis=0)
    estimate = statistics.clustered_mean(difference_N, clusters_N)
    if _vanishes(float(estimate.standard_error), difference_N):
        return _no_variation()
    num_runs, num_groups = len(difference_SN), int(clusters_N.max()) + 1
    method = "paired difference, clustered by image (CR1), t"
    if num_runs > 1:
        estimate = statistics.add_seed_variance(estimate, difference_SN.mean(axis=1).tolist())
        method += ", variance between training runs added"
    binary = bool(np.isin(model_SN, (0.0, 1.0)).all() and np.isin(against_SN, (0.0, 1.0)).all())
    if num_runs == 1 and binary and num_groups == len(difference_N):
        p_check = statistics.mcnemar(int((difference_N > 0).sum()), int((difference_N < 0).sum())).exact
        p_check_method = "McNemar"
    else:
        p_check = sign_flip_p(statistics.cluster_sums(difference_N, clusters_N), seed=seed)
        p_check_method = "sign-flip"
    low, high = statistics.t_interval(estimate, alpha=alpha)
    return Difference(
        value=float(estimate.value),
        interval=(float(low), float(high)),
        standard_error=float(estimate.standard_error),
        degrees_of_freedom=estimate.degrees_of_freedom,
        p=float(statistics.t_p(estimate)),
        p_check=p_check,
        p_check_method=p_check_method,
        method=method,
        num_questions=len(difference_N),
        num_groups=num_groups,
    )


def _ratio_difference(
    metric: Metric,
    names: Sequence[str],
    model_SNP: np.ndarray,
    against_SNP: np.ndarray,
    clusters_N: np.ndarray,
    *,
    seed: int,
    alpha: float,
) -> Difference | Refusal:
    num_runs, num_questions, num_parts = model_SNP.shape
    num_groups = int(clusters_N.max()) + 1

    def by_group(columns_SNP: np.ndarray) -> np.ndarray:
        sums_SPG = statistics.cluster_sums(columns_SNP.swapaxes(1, 2), clusters_N)
        return sums_SPG.reshape(num_runs * num_parts, num_groups).T

    def differences(sums_BC: np.ndarray) -> np.ndarray:
        """float64[B, 2 * S * P] summed parts to float64[S, B], one row per training run."""
        sums_BUSP = sums_BC.reshape(len(sums_BC), 2, num_runs, num_parts)
        values_USB = [[combined(metric, names, sums_BUSP[:, side, run]) for run in range(num_runs)] for side in (0, 1)]
        return np.array(values_USB[0]) - np.array(values_USB[1])

    def average(sums_BC: np.ndarray) -> np.ndarray:
        return differences(sums_BC).mean(axis=0)

    model_GC, against_GC = by_group(model_SNP), by_group(against_SNP)
    columns_GC = np.concatenate([model_GC, against_GC], axis=1)
    run_values_S = differences(columns_GC.sum(axis=0)[None, :])[:, 0]
    if np.isnan(run_values_S).any():
        return Refusal("undefined value", "the metric divides by zero for one of the two")
    bootstrap = cluster_bootstrap(columns_GC, average, seed=seed, alpha=alpha)
    if bootstrap.undefined > MAX_UNDEFINED:
        return Refusal("undefined value", f"the metric divides by zero in {bootstrap.undefined:.0%} of the resamples")
    if _vanishes(bootstrap.standard_error, run_values_S):
        return _no_variation()
    estimate = statistics.Estimate(bootstrap.value, bootstrap.standard_error, num_groups - 1)
    interval, p, method = (bootstrap.low, bootstrap.high), bootstrap.p, "paired cluster bootstrap, BCa"
    if num_runs > 1:
        estimate = statistics.add_seed_variance(estimate, run_values_S.tolist())
        low, high = statistics.t_interval(estimate, alpha=alpha)
        interval, p = (float(low), float(high)), float(statistics.t_p(estimate))
        method = "paired cluster bootstrap, t, variance between training runs added"
    return Difference(
        value=bootstrap.value,
        interval=interval,
        standard_error=float(estimate.standard_error),
        degrees_of_freedom=estimate.degrees_of_freedom,
        p=p,
        p_check=label_swap_p(model_GC, against_GC, average, seed=seed),
        p_check_method="label-swap",
        method=method,
        num_questions=num_questions,
        num_groups=num_groups,
    )


def combined(metric: Metric, names: Sequence[str], sums_BP: np.ndarray) -> np.ndarray:
    """Combine summed parts, float64[B, P], into a ratio metric's values, float64[B], nan where undefined."""
    if metric.combine is None:
        raise ValueError(f"metric {metric.name} is a mean of values and has nothing to combine")
    return metric.combine({name: sums_BP[:, column] for column, name in enumerate(names)})


def _vanishes(standard_error: float, values: np.ndarray) -> bool:
    return standard_error <= 1e-12 * max(1.0, float(np.abs(values).max()))


def _no_variation() -> Refusal:
    return Refusal("no variation", "the difference is the same on every image, so its uncertainty cannot be estimated")
