"""The best of several, chosen on the test set: how large its gain would look with no effect at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.study.names import without_stage
from sightline.verdict import statistics
from sightline.verdict.columns import ArmScores, combined, number_groups, part_names, score_columns
from sightline.verdict.pairs import MIN_GROUPS, Refusal
from sightline.verdict.questions import Arms, Asked, EvaluationSet, find_runs
from sightline.verdict.resampling import summed_resamples
from sightline.verdict.sentences import amount, measured_by, model_in_words


def best_of_several(
    arms: Arms, sets: Mapping[str, EvaluationSet], asked: Sequence[Asked], *, seed: int
) -> list[dict[str, Any]]:
    """Warn of the best of several models that stand against the same one on the same questions.

    Args:
        arms: everything measured.
        sets: by name.
        asked: every question asked, stated or not; metrics by which nothing is chosen left out.
        seed: of the resamples.

    Returns:
        per group of two models or more: the best, its gain, the gain that the best would show on average if no model
        differed from the one they stand against, how often it would show at least this one, and a sentence. Models of
        a curriculum's stages are no candidates.
    """
    grouped: dict[tuple[str, str, str, str], list[Asked]] = {}
    for question in asked:
        if not question.metric.neutral and without_stage(question.model)[1] is None:
            among = (question.against, question.metric.name, question.data, question.template)
            grouped.setdefault(among, []).append(question)
    found = []
    for members in grouped.values():
        if len(members) > 1 and (warning := _warn(arms, sets, members, seed)):
            found.append(warning)
    return found


def gain_by_choice(replicates_BK: np.ndarray, gains_K: np.ndarray) -> tuple[float, float]:
    """Say what choosing the best of K models gains with no effect in any.

    Args:
        replicates_BK: float64[B, K], each model's gain in each resample, higher being better.
        gains_K: float64[K], their gains as measured.

    Returns:
        the best's gain on average, and the share of resamples in which it is at least the largest measured one; both
        with the resamples moved to a mean of 0.
    """
    best_B = (replicates_BK - replicates_BK.mean(axis=0)).max(axis=1)
    num_as_large = int((best_B >= gains_K.max() - 1e-12).sum())
    return float(best_B.mean()), (num_as_large + 1) / (len(best_B) + 1)


def _warn(arms: Arms, sets: Mapping[str, EvaluationSet], members: Sequence[Asked], seed: int) -> dict[str, Any] | None:
    against, metric, data, template = members[0].against, members[0].metric, members[0].data, members[0].template
    runs = {question.model: find_runs(arms, question) for question in members}
    known = {model: pairs for model, pairs in runs.items() if not isinstance(pairs, Refusal)}
    names = sorted({name for pairs in known.values() for run in pairs for name in (run.model, run.against)})
    scores = {name: arms[name, data, template].get(metric.name, {}) for name in names}
    shared = sorted(set.intersection(*map(_counted, scores.values()))) if scores else []
    clusters_N = number_groups(sets[data].groups, shared)
    if len(known) < 2 or len(set(clusters_N.tolist())) < MIN_GROUPS:
        return None
    rows = [[scores[name][sample_id] for sample_id in shared] for name in names]
    parts = part_names(metric, [score for row in rows for score in row])
    columns = [score_columns(metric, row, parts) for row in rows]
    sums_GC = statistics.cluster_sums(np.concatenate([*columns, np.ones((len(shared), 1))], axis=1).T, clusters_N).T

    def gains(sums_BC: np.ndarray) -> np.ndarray:
        """float64[B, names x parts + 1] sums to float64[B, K] gains."""
        values = {}
        for number, name in enumerate(names):
            sums_BP = sums_BC[:, number * len(parts) : (number + 1) * len(parts)]
            is_mean = metric.kind == "mean"
            values[name] = sums_BP[:, 0] / sums_BC[:, -1] if is_mean else combined(metric, parts, sums_BP)
        sign = 1 if metric.higher_is_better else -1
        each = [[sign * (values[run.model] - values[run.against]) for run in pairs] for pairs in known.values()]
        return np.stack([np.mean(of_model, axis=0) for of_model in each], axis=1)

    gains_K = gains(sums_GC.sum(axis=0)[None, :])[0]
    replicates_BK = gains(summed_resamples(sums_GC, seed=seed))
    replicates_BK = replicates_BK[~np.isnan(replicates_BK).any(axis=1)]
    if np.isnan(gains_K).any() or len(replicates_BK) < 2:
        return None
    expected, p = gain_by_choice(replicates_BK, gains_K)
    found = {
        "against": against,
        "metric": metric.name,
        "data": data,
        "template": template,
        "unit": metric.unit,
        "models": list(known),
        "best": list(known)[int(gains_K.argmax())],
        "gain": float(gains_K.max()),
        "expected": expected,
        "p": p,
    }
    title = f"{len(known)} models against {model_in_words(against)}, {measured_by(found)}"
    return found | {"title": title, "sentence": _say(found)}


def _counted(scores: ArmScores) -> set[str]:
    return {name for name, score in scores.items() if score.outcome in ("scored", "unparsed")}


def _say(found: Mapping[str, Any]) -> str:
    unit, num_models = found["unit"], len(found["models"])
    if found["gain"] <= 0:
        return f"none of the {num_models} is above it."
    return (
        f"the best is {found['best']}, better by {amount(found['gain'], unit, signed=False)}. Whoever keeps it for "
        f"that has chosen on the test set: with no effect in any, the best of {num_models} would seem better by "
        f"{amount(found['expected'], unit, signed=False)} on average, and by this much or more in {found['p']:.0%} of "
        "such studies. Confirm it on questions that did not choose it."
    )
