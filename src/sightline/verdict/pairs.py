"""Two arms, question by question: which questions both answered, and what their difference is.

Questions that share a picture, directly or through others, form a group: what a verdict takes for independent.

Shape suffixes: N questions, G groups, S seeds (training runs), P parts.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from sightline.records import Sample, Score
from sightline.scoring.metrics import Metric
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
from sightline.verdict.margins import MarginTests, Tails, t_tails, tests_of_margin
from sightline.verdict.resampling import cluster_bootstrap, label_swap_p, sign_flip_p
from sightline.verdict.sentences import about_images, amount
from sightline.verdict.unscored import what_is_missing

Rule = Literal["wrong", "left_out"]
"""How unparsed answers count: wrong (the primary rule); or their questions left out."""

MIN_GROUPS = 5
MAX_FAILED = 0.01
MAX_UNDEFINED = 0.01
NO_SCORES = "more than 1% of questions have no score"
TOKENIZERS = "different tokenizers"
NO_VARIATION = "no variation"
NO_INTERVAL = "no interval"
MIN_GROUPS_UNCHECKED = 20
"""A ratio has no second test against a margin; with fewer groups than this none is claimed to be kept."""


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
        seeds: the training run of each row; rows of one run are averaged, and only runs vary by chance.
        num_failed: questions left out because a scorer failed on one of their answers.
    """

    sample_ids: tuple[str, ...]
    clusters_N: np.ndarray
    pictures: tuple[frozenset[str], ...]
    model: tuple[tuple[Score, ...], ...]
    against: tuple[tuple[Score, ...], ...]
    seeds: tuple[object, ...]
    num_failed: int

    @property
    def num_images(self) -> int:
        """Distinct pictures among the questions."""
        return len(frozenset().union(*self.pictures))

    @property
    def num_groups(self) -> int:
        """Groups of questions that share no picture."""
        return len(set(self.clusters_N.tolist()))

    def only(self, sample_ids: Collection[str]) -> Pairs:
        """Keep some of the questions."""
        keep = [name in sample_ids for name in self.sample_ids]

        def kept(row: Iterable[Any]) -> tuple[Any, ...]:
            return tuple(itertools.compress(row, keep))

        return replace(
            self,
            sample_ids=kept(self.sample_ids),
            clusters_N=self.clusters_N[keep],
            pictures=kept(self.pictures),
            model=tuple(map(kept, self.model)),
            against=tuple(map(kept, self.against)),
        )


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
        margin: what a margin adds, where one was stated.
        runs: what the spread between training runs adds, where there are several.
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
    margin: MarginTests | None = None
    runs: statistics.RunSpread | None = None


def pair_scores(
    samples: Mapping[str, Sample],
    metric: Metric,
    model: Sequence[ArmScores],
    against: Sequence[ArmScores],
    *,
    groups: Mapping[str, str] | None = None,
    seeds: Sequence[object] = (),
) -> Pairs | Refusal:
    """Match two arms by sample id, never by position.

    Args:
        samples: the data set.
        metric: the scores' metric.
        model: one mapping per training run.
        against: likewise; a single one stands against every run of the other side.
        groups: `group_names(samples)`, where the caller has them.
        seeds: the training run of each mapping; each is one of its own by default.
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
        return Refusal(NO_SCORES, f"{len(failed):,} of {len(anywhere):,}: {what_is_missing(metric, failed, arms)}")
    sample_ids = tuple(sorted(anywhere - failed))
    pairs = Pairs(
        sample_ids=sample_ids,
        clusters_N=number_groups(groups or group_names(samples), sample_ids),
        pictures=tuple(frozenset(picture.sha256 for picture in samples[name].pictures) for name in sample_ids),
        model=tuple(tuple(arm[name] for name in sample_ids) for arm in sides[0]),
        against=tuple(tuple(arm[name] for name in sample_ids) for arm in sides[1]),
        seeds=tuple(seeds) or tuple(range(num_runs)),
        num_failed=len(failed),
    )
    return _unlike(metric, pairs) or pairs


def estimate_difference(
    metric: Metric, pairs: Pairs, rule: Rule, *, seed: int = 0, alpha: float = 0.05, margin: float | None = None
) -> Difference | Refusal:
    """Estimate model minus against, with interval and both tests.

    Means: clustered t on the paired differences (T1), sign flips of whole groups or McNemar (T2). Ratios: paired
    cluster bootstrap, BCa (T1), label swaps of whole groups (T2). Several training runs: each question's difference
    is averaged over them and the variance between runs is added.

    Args:
        metric: of the scores.
        pairs: from `pair_scores`.
        rule: how unparsed answers count.
        seed: of everything drawn.
        alpha: one minus the interval's coverage.
        margin: tests whether the difference is within it besides, in the metric's unit.
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
    model_SNP, against_SNP = (
        np.stack([score_columns(metric, row, names)[keep] for row in side]) for side in (pairs.model, pairs.against)
    )
    plan = _Plan(metric, clusters_N, num_groups, pairs.seeds, seed, alpha, margin)
    if metric.kind == "mean":
        return _mean_difference(plan, model_SNP[..., 0], against_SNP[..., 0])
    return _ratio_difference(plan, names, model_SNP, against_SNP)


class _Plan(NamedTuple):
    """How a difference is estimated; see `estimate_difference` and `Pairs`."""

    metric: Metric
    clusters_N: np.ndarray
    num_groups: int
    seeds: tuple[object, ...]
    seed: int
    alpha: float
    margin: float | None

    def run_means(self, values_S: np.ndarray) -> list[float]:
        """Average rows of one training run; the runs in the order of their first row."""
        runs = dict.fromkeys(self.seeds)
        return [float(values_S[[seed == run for seed in self.seeds]].mean()) for run in runs]


def _unlike(metric: Metric, pairs: Pairs) -> Refusal | None:
    """Refuse losses over different tokens: their units differ."""
    if metric.unit not in ("nats", "perplexity"):
        return None
    arms = zip(*pairs.model, *pairs.against, strict=True)
    differing = sum(len({score.parts.get("tokens") for score in scores}) > 1 for scores in arms)
    if not differing:
        return None
    return Refusal(TOKENIZERS, f"the two count different tokens in {differing} reference answers")


def _mean_difference(plan: _Plan, model_SN: np.ndarray, against_SN: np.ndarray) -> Difference | Refusal:
    difference_SN = model_SN - against_SN
    difference_N = difference_SN.mean(axis=0)
    estimate = statistics.clustered_mean(difference_N, plan.clusters_N)
    if vanishes(float(estimate.standard_error), difference_N):
        return _no_variation(plan.metric, float(estimate.value), len(difference_N))
    run_means = plan.run_means(difference_SN.mean(axis=1))
    method, runs = "paired difference, clustered by image (CR1), t", None
    if len(run_means) > 1:
        runs = statistics.run_spread(estimate, run_means, alpha=plan.alpha)
        estimate = statistics.add_seed_variance(estimate, run_means)
        method += ", variance between training runs added"
    binary = bool(np.isin(model_SN, (0.0, 1.0)).all() and np.isin(against_SN, (0.0, 1.0)).all())
    sums_G = statistics.cluster_sums(difference_N, plan.clusters_N)
    if len(difference_SN) == 1 and binary and plan.num_groups == len(difference_N):
        p_check = statistics.mcnemar(int((difference_N > 0).sum()), int((difference_N < 0).sum())).exact
        p_check_method = "McNemar"
    else:
        p_check = sign_flip_p(sums_G, seed=plan.seed)
        p_check_method = "sign-flip"
    margin = None
    if plan.margin is not None:
        most_G = plan.margin * np.bincount(plan.clusters_N)
        checks = Tails(
            *(sign_flip_p(moved_G, seed=plan.seed, one_sided=True) for moved_G in (most_G + sums_G, most_G - sums_G))
        )
        margin = tests_of_margin(
            plan.margin,
            possible_ends(statistics.t_interval(estimate, alpha=2 * plan.alpha), plan.metric.unit, of_change=True),
            t_tails(estimate, plan.margin),
            checks,
            higher_is_better=plan.metric.higher_is_better,
        )
    low, high = possible_ends(statistics.t_interval(estimate, alpha=plan.alpha), plan.metric.unit, of_change=True)
    return Difference(
        value=float(estimate.value),
        interval=(low, high),
        standard_error=float(estimate.standard_error),
        degrees_of_freedom=estimate.degrees_of_freedom,
        p=float(statistics.t_p(estimate)),
        p_check=p_check,
        p_check_method=p_check_method,
        method=method,
        num_questions=len(difference_N),
        num_groups=plan.num_groups,
        margin=margin,
        runs=runs,
    )


def _ratio_difference(
    plan: _Plan, names: Sequence[str], model_SNP: np.ndarray, against_SNP: np.ndarray
) -> Difference | Refusal:
    num_rows, num_questions, num_parts = model_SNP.shape

    def by_group(columns_SNP: np.ndarray) -> np.ndarray:
        sums_SPG = statistics.cluster_sums(columns_SNP.swapaxes(1, 2), plan.clusters_N)
        return sums_SPG.reshape(num_rows * num_parts, plan.num_groups).T

    def differences(sums_BC: np.ndarray) -> np.ndarray:
        """float64[B, 2 * S * P] summed parts to float64[S, B], one row per pair of arms."""
        sums_BUSP = sums_BC.reshape(len(sums_BC), 2, num_rows, num_parts)
        values_USB = [
            [combined(plan.metric, names, sums_BUSP[:, side, row]) for row in range(num_rows)] for side in (0, 1)
        ]
        return np.array(values_USB[0]) - np.array(values_USB[1])

    def average(sums_BC: np.ndarray) -> np.ndarray:
        return differences(sums_BC).mean(axis=0)

    model_GC, against_GC = by_group(model_SNP), by_group(against_SNP)
    columns_GC = np.concatenate([model_GC, against_GC], axis=1)
    row_values_S = differences(columns_GC.sum(axis=0)[None, :])[:, 0]
    if np.isnan(row_values_S).any():
        return Refusal("undefined value", "the metric divides by zero for one of the two")
    bootstrap = cluster_bootstrap(columns_GC, average, seed=plan.seed, alpha=plan.alpha)
    if bootstrap.undefined > MAX_UNDEFINED:
        return Refusal("undefined value", f"the metric divides by zero in {bootstrap.undefined:.0%} of the resamples")
    low, high = bootstrap.interval(plan.alpha)
    if vanishes(bootstrap.standard_error, row_values_S) or vanishes(high - low, row_values_S):
        is_alike = bool(np.array_equal(model_SNP, against_SNP))
        return _no_variation(plan.metric, bootstrap.value, num_questions, is_alike=is_alike)
    estimate = statistics.Estimate(bootstrap.value, bootstrap.standard_error, plan.num_groups - 1)
    interval, p, method, runs = bootstrap.interval, bootstrap.p, "paired cluster bootstrap, BCa", None
    ends = plan.margin or 0.0
    tails = Tails(bootstrap.share_below(-ends), 1 - bootstrap.share_below(ends))
    if len(run_means := plan.run_means(row_values_S)) > 1:
        runs = statistics.run_spread(estimate, run_means, alpha=plan.alpha)
        estimate = statistics.add_seed_variance(estimate, run_means)
        interval, p = functools.partial(statistics.t_interval, estimate), float(statistics.t_p(estimate))
        method = "paired cluster bootstrap, t, variance between training runs added"
        tails = t_tails(estimate, ends)
    margin = None
    if plan.margin is not None:
        checks = tails if plan.num_groups >= MIN_GROUPS_UNCHECKED else Tails(1.0, 1.0)
        margin = tests_of_margin(
            plan.margin,
            possible_ends(interval(alpha=2 * plan.alpha), plan.metric.unit, of_change=True),
            tails,
            checks,
            higher_is_better=plan.metric.higher_is_better,
        )
    low, high = possible_ends(interval(alpha=plan.alpha), plan.metric.unit, of_change=True)
    return Difference(
        value=bootstrap.value,
        interval=(low, high),
        standard_error=float(estimate.standard_error),
        degrees_of_freedom=estimate.degrees_of_freedom,
        p=p,
        p_check=label_swap_p(model_GC, against_GC, average, seed=plan.seed),
        p_check_method="label-swap",
        method=method,
        num_questions=num_questions,
        num_groups=plan.num_groups,
        margin=margin,
        runs=runs,
    )


def vanishes(standard_error: float, values: np.ndarray) -> bool:
    """Say whether a standard error is nothing but rounding."""
    return standard_error <= 1e-12 * max(1.0, float(np.abs(values).max()))


def _no_variation(metric: Metric, difference: float, num_questions: int, *, is_alike: bool = True) -> Refusal:
    """Refuse an interval where nothing varies: say that nothing differs, or what does and on every image alike."""
    if abs(difference) > 1e-12:
        change = amount(difference, metric.unit)
        return Refusal(
            NO_INTERVAL, f"{change}, and it is the same on every image, so its uncertainty cannot be estimated"
        )
    if is_alike:
        return Refusal(NO_VARIATION, f"all {num_questions:,} questions count the same for both models")
    return Refusal(NO_VARIATION, "both models have the same value, whichever images are drawn")
