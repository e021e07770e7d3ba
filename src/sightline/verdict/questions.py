"""From a question to its verdict: which runs it is about, what they differ by, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from sightline.records import Sample, Score
from sightline.scoring.metrics import Metric
from sightline.verdict import statistics
from sightline.verdict.pairs import (
    RULES,
    ArmScores,
    Difference,
    Pairs,
    Refusal,
    Rule,
    estimate_difference,
    pair_scores,
    part_names,
    score_columns,
)
from sightline.verdict.sentences import DISAGREE, INVALID, ONE_RUN, say

ALPHA = 0.05
POWER = 0.8

COUNTED: tuple[Rule, ...] = ("wrong", "left_out")
BOUNDS: tuple[Rule, ...] = ("for_model", "for_against")

Arms = Mapping[tuple[str, str, str], Mapping[str, ArmScores]]
"""(model, data set, template) to metric name to scores."""

Finding = Literal["improved", "regressed", "no detectable difference", "tests disagree", "not estimable"]


class Asked(NamedTuple):
    """A comparison brought to one metric, data set and template."""

    model: str
    against: str
    metric: Metric
    data: str
    template: str


class Run(NamedTuple):
    """One pair of checkpoints; `seed` is None where neither name has one."""

    seed: int | None
    model: str
    against: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What is known about a question before its family is corrected.

    Args:
        asked: the question.
        runs: pairs of checkpoints it averages over.
        pairs: matched scores, or why there are none.
        differences: by rule for unparsed answers; "wrong" alone where there are none.
    """

    asked: Asked
    runs: tuple[Run, ...]
    pairs: Pairs | Refusal
    differences: Mapping[Rule, Difference | Refusal]

    @property
    def difference(self) -> Difference | Refusal:
        """Under the primary rule."""
        return self.pairs if isinstance(self.pairs, Refusal) else self.differences["wrong"]

    def under(self, rule: Rule) -> Difference | Refusal:
        """Under another rule, the same where it changes nothing."""
        return self.differences.get(rule, self.difference)


def split_name(model: str) -> tuple[str, int | None]:
    """Split "sft.a16@0" into recipe and seed; the seed is None without one."""
    recipe, at, seed = model.rpartition("@")
    return (recipe, int(seed)) if at and seed.isdecimal() else (model, None)


def answer_family(
    arms: Arms, samples: Mapping[str, Mapping[str, Sample]], family: Sequence[Asked], *, seed: int
) -> list[dict[str, Any]]:
    """Answer a family of questions, corrected together; the single checkpoints of seeded recipes form another.

    Returns:
        one entry of compare.json per question, in the order asked.
    """
    recipes, checkpoints = [], []
    for asked in family:
        runs = find_runs(arms, asked)
        recipes.append(_examine(arms, samples.get(asked.data, {}), asked, runs, seed))
        several = runs if not isinstance(runs, Refusal) and len(runs) > 1 else ()
        checkpoints.append(
            [
                _examine(arms, samples[asked.data], asked._replace(model=run.model, against=run.against), (run,), seed)
                for run in several
            ]
        )
    entries = _judge(recipes, seed)
    singles = iter(_judge([question for group in checkpoints for question in group], seed))
    for entry, group in zip(entries, checkpoints, strict=True):
        entry["checkpoints"] = [next(singles) for _ in group]
    return entries


def find_runs(arms: Arms, asked: Asked) -> tuple[Run, ...] | Refusal:
    """Pair the checkpoints of two names: equal seeds, or each seed with a model that has none."""

    def seeds_of(name: str) -> dict[int | None, str]:
        if (name, asked.data, asked.template) in arms:
            return {None: name}
        names = sorted(model for model, *place in arms if place == [asked.data, asked.template])
        return {split_name(model)[1]: model for model in names if split_name(model)[0] == name}

    model, against = seeds_of(asked.model), seeds_of(asked.against)
    if not model or not against:
        missing = " and ".join(name for name, found in ((asked.model, model), (asked.against, against)) if not found)
        return Refusal("nothing scored", f"no answers on {asked.data} by {missing}")
    if None in against:
        return tuple(Run(seed, name, against[None]) for seed, name in sorted(model.items(), key=_by_seed))
    if None in model:
        return tuple(Run(seed, model[None], name) for seed, name in sorted(against.items(), key=_by_seed))
    if model.keys() != against.keys():
        listed = "; ".join(
            f"{name} has seeds {', '.join(str(seed) for seed, _ in sorted(found.items(), key=_by_seed))}"
            for name, found in ((asked.model, model), (asked.against, against))
        )
        return Refusal("unmatched samples", listed)
    return tuple(Run(seed, name, against[seed]) for seed, name in sorted(model.items(), key=_by_seed))


def finding(
    difference: Difference | Refusal, p_adjusted: float, p_check_adjusted: float, *, metric: Metric, num_runs: int
) -> Finding:
    """Say what one way of counting finds: both tests must agree.

    The check cannot see the variance between training runs, so over several runs it may withhold a claim but its
    disagreement with a cautious interval means nothing.
    """
    if isinstance(difference, Refusal):
        return "not estimable"
    detected, checked = p_adjusted < ALPHA, p_check_adjusted < ALPHA
    if detected != checked and (detected or num_runs == 1):
        return "tests disagree"
    if not detected:
        return "no detectable difference"
    return "improved" if (difference.value > 0) == metric.higher_is_better else "regressed"


def verdict(findings: Mapping[Rule, Finding], bounds: Sequence[float]) -> tuple[str, str]:
    """Turn findings under both countings of unparsed answers into a verdict and, for a borderline one, its reason.

    Args:
        findings: with unparsed answers counted wrong, and with their questions left out.
        bounds: the difference if unparsed answers had been whatever suits one side best; none where all were parsed.
    """
    primary = findings["wrong"]
    if primary == "tests disagree":
        return "borderline", DISAGREE
    if findings["left_out"] != primary:
        return "borderline", INVALID
    if primary in ("improved", "regressed") and bounds and min(bounds) < 0 < max(bounds):
        return "borderline", INVALID
    return primary, ""


def _by_seed(item: tuple[int | None, str]) -> int:
    return -1 if item[0] is None else item[0]


def _examine(
    arms: Arms, samples: Mapping[str, Sample], asked: Asked, runs: tuple[Run, ...] | Refusal, seed: int
) -> Question:
    """Pair the scores of a question and estimate the difference under every rule for unparsed answers."""
    if isinstance(runs, Refusal):
        return Question(asked=asked, runs=(), pairs=runs, differences={})
    place = (asked.data, asked.template)
    names = [name for run in runs for name in (run.model, run.against)]
    missing = sorted({name for name in names if not arms[name, *place].get(asked.metric.name)})
    if missing:
        refusal = Refusal("nothing scored", f"no {asked.metric.name} on {asked.data} for {', '.join(missing)}")
        return Question(asked=asked, runs=runs, pairs=refusal, differences={})
    model = [arms[run.model, *place][asked.metric.name] for run in runs]
    against = [arms[run.against, *place][asked.metric.name] for run in runs]
    pairs = pair_scores(samples, asked.metric, model, against)
    differences: dict[Rule, Difference | Refusal] = {}
    if isinstance(pairs, Pairs):
        rules = RULES if any(_num_unparsed(pairs).values()) else RULES[:1]
        differences = {rule: estimate_difference(asked.metric, pairs, rule, seed=seed, alpha=ALPHA) for rule in rules}
    return Question(asked=asked, runs=runs, pairs=pairs, differences=differences)


def _judge(questions: Sequence[Question], seed: int) -> list[dict[str, Any]]:
    """Correct a family for its size, and give each question its verdict and sentence."""
    decidable = [question for question in questions if isinstance(question.difference, Difference)]
    adjusted = {rule: _adjusted(decidable, rule) for rule in COUNTED}
    entries = []
    for question in questions:
        entry = _describe(question, seed)
        if question in decidable:
            place = decidable.index(question)
            entry["p_adjusted"], entry["p_check_adjusted"] = adjusted["wrong"][place]
            findings: dict[Rule, Finding] = {
                rule: finding(
                    question.under(rule),
                    *adjusted[rule][place],
                    metric=question.asked.metric,
                    num_runs=len(question.runs),
                )
                for rule in COUNTED
            }
            bounds = [question.under(rule) for rule in BOUNDS]
            values = [bound.value for bound in bounds if isinstance(bound, Difference)]
            entry["verdict"], entry["reason"] = verdict(findings, values)
        entry["sentence"] = say(entry, family_size=len(decidable), alpha=ALPHA, power=POWER)
        entries.append(entry)
    return entries


def _adjusted(questions: Sequence[Question], rule: Rule) -> list[tuple[float, float]]:
    """Adjust both tests within a family, question by question; what cannot be estimated takes no part of alpha."""
    found = [question.under(rule) for question in questions]
    p_values = statistics.holm([each.p if isinstance(each, Difference) else 1.0 for each in found])
    p_checks = statistics.holm([each.p_check if isinstance(each, Difference) else 1.0 for each in found])
    return list(zip(p_values, p_checks, strict=True))


def _describe(question: Question, seed: int) -> dict[str, Any]:
    """Write a question down as compare.json holds it, its verdict still open."""
    asked, difference = question.asked, question.difference
    known = difference if isinstance(difference, Difference) else None
    entry: dict[str, Any] = {
        "model": asked.model,
        "against": asked.against,
        "metric": asked.metric.name,
        "data": asked.data,
        "template": asked.template,
        "verdict": "cannot decide",
        "sentence": "",
        "reason": difference.reason if isinstance(difference, Refusal) else "",
        "detail": difference.detail if isinstance(difference, Refusal) else "",
        "unit": asked.metric.unit,
        "higher_is_better": asked.metric.higher_is_better,
        "difference": known and known.value,
        "interval": known and list(known.interval),
        "standard_error": known and known.standard_error,
        "degrees_of_freedom": known and known.degrees_of_freedom,
        "p": known and known.p,
        "p_adjusted": None,
        "p_check": known and known.p_check,
        "p_check_adjusted": None,
        "p_check_method": known and known.p_check_method,
        "detectable": known
        and statistics.detectable_difference(known.standard_error, known.degrees_of_freedom, alpha=ALPHA, power=POWER),
        "method": known and known.method,
        "seed": seed,
        "seeds": [run.seed for run in question.runs if run.seed is not None],
        "note": ONE_RUN if len(question.runs) == 1 else "",
        "by_rule": _by_rule(question),
        "checkpoints": [],
    }
    return entry | _counts(question)


def _counts(question: Question) -> dict[str, Any]:
    """Count questions, images, changes and unparsed answers; over several runs, changes are of the average.

    Where no pairs could be made there is nothing to count: None, which is not 0.
    """
    pairs = question.pairs
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
    gain_SN = _goodness(question.asked.metric, pairs.model) - _goodness(question.asked.metric, pairs.against)
    gain_N = gain_SN.mean(axis=0)
    fixed_ids = [name for name, gain in zip(pairs.sample_ids, gain_N, strict=True) if gain > 1e-12]
    broke_ids = [name for name, gain in zip(pairs.sample_ids, gain_N, strict=True) if gain < -1e-12]
    return {
        "num_questions": len(pairs.sample_ids),
        "num_images": pairs.num_images,
        "num_groups": pairs.num_groups,
        "binary": len(question.runs) == 1 and bool(np.isin(gain_N, (-1.0, 0.0, 1.0)).all()),
        "fixed": len(fixed_ids),
        "broke": len(broke_ids),
        "fixed_ids": fixed_ids,
        "broke_ids": broke_ids,
        "unparsed": _num_unparsed(pairs),
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


def _num_unparsed(pairs: Pairs) -> dict[str, int]:
    return {
        side: sum(score.outcome == "unparsed" for row in rows for score in row)
        for side, rows in (("model", pairs.model), ("against", pairs.against))
    }


def _by_rule(question: Question) -> dict[str, Any] | None:
    """Give the difference with unparsed answers left out, and the bounds whatever they had been."""
    if len(question.differences) < len(RULES):
        return None
    left_out = question.differences["left_out"]
    bounds = [question.differences[rule] for rule in ("for_against", "for_model")]
    known = [each.value for each in bounds if isinstance(each, Difference)]
    return {
        "left_out": {
            "difference": left_out.value,
            "interval": list(left_out.interval),
            "p": left_out.p,
            "num_questions": left_out.num_questions,
            "num_groups": left_out.num_groups,
        }
        if isinstance(left_out, Difference)
        else None,
        "bounds": sorted(known) if len(known) == 2 else None,
    }
