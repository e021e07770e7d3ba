"""Builds compare.json: every arm measured, every question answered, the stated ones first.

The rules behind the verdicts are in design/verdicts.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import StudyError
from sightline.records import Sample, Score
from sightline.scoring.metrics import Metric
from sightline.verdict.arms import describe_arm, majority_baselines, scores_by_id
from sightline.verdict.effects import Factorial, factor_effects
from sightline.verdict.findings import ALPHA, POWER
from sightline.verdict.pairs import TOKENIZERS
from sightline.verdict.questions import Arms, Asked, EvaluationSet, answer_family, split_name
from sightline.verdict.selection import best_of_several
from sightline.verdict.sentences import ONE_RUN, model_in_words
from sightline.verdict.wordings import across_wordings, by_wording
from sightline.verdict.yes_no import apply_trade_offs, take_apart

BASE = "base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A question of a study: is `model` better than `against`?

    Args:
        model: "sft" for all its seeds, "sft@0" for one.
        against: likewise.
        by: metric; None is the study's first.
        data: evaluation set; None is each.
        margin: asks whether `model` is no worse by more than this, in the metric's unit (rates in [0, 1]).
    """

    model: str
    against: str
    by: str | None = None
    data: str | None = None
    margin: float | None = None


def refuse_points(margin: float | None, metric: Metric, model: str, against: str) -> None:
    """Refuse a margin that is no rate where the metric is one.

    Raises:
        StudyError: naming the question and the margin that is most likely meant.
    """
    if margin is not None and metric.unit == "rate" and margin >= 1:
        raise StudyError(
            f"compare {model} against {against}: margin {margin:g}, and {metric.name} is a rate in [0, 1]; "
            f"write {margin / 100:g} for {margin:g} points"
        )


def compare_models(
    *,
    study: str,
    samples: Mapping[str, Mapping[str, Sample]],
    scores: Mapping[tuple[str, str, str], Mapping[str, Sequence[Score]]],
    metrics: Sequence[Metric],
    stated: Sequence[Comparison],
    asked_later: Sequence[Comparison] = (),
    seed: int = 0,
    accepted_notes: Sequence[str] = (),
    seen: Mapping[str, Mapping[str, str]] | None = None,
    factorials: Sequence[Factorial] = (),
) -> dict[str, Any]:
    """Compare models on what they answered, and say what is known.

    Args:
        study: its name.
        samples: data set to sample id to sample.
        scores: (model, data set, template) to metric name to that arm's scores, in any order.
        metrics: in the study's order; the first is the primary one.
        stated: the questions asked before the run.
        asked_later: questions that somebody asks of what has run. They are exploratory, and so is every model against
            base, which is compared besides.
        seed: of sign flips, label swaps and bootstraps.
        accepted_notes: what the reader should know, e.g. faults the study accepted.
        seen: data set to sample id to how training has seen it; what is not in it is clean.
        factorials: grids of settings, whose effects are estimated besides.

    Returns:
        the content of compare.json, described in design/verdicts.md; the same for the same scores in any order.

    Raises:
        DataError: a sample scored twice, or one that is not in the data.
        StudyError: a comparison by a metric that the study does not measure, or with a margin in points.
    """
    arms: Arms = {
        key: {
            name: scores_by_id(samples[key[1]], by_metric, arm=f"{key[0]} on {key[1]}")
            for name, by_metric in scores[key].items()
        }
        for key in sorted(scores, key=lambda key: (key[0] != BASE, key))
    }
    by_name = {metric.name: metric for metric in metrics}
    for comparison in (*stated, *asked_later):
        if comparison.by is not None and comparison.by not in by_name:
            raise StudyError(
                f"compare {comparison.model} against {comparison.against} by {comparison.by!r}: the study measures "
                f"{', '.join(by_name)}; add it to evaluate.metrics"
            )
        refuse_points(
            comparison.margin, by_name[comparison.by or metrics[0].name], comparison.model, comparison.against
        )
    sets = {name: EvaluationSet.of(rows, (seen or {}).get(name)) for name, rows in samples.items()}
    asked, later = (
        [
            Asked(each.model, each.against, by_name[each.by or metrics[0].name], data, template, each.margin)
            for each in comparisons
            for data, template in _asked_places(arms, each, by_name[each.by or metrics[0].name])
        ]
        for comparisons in (stated, asked_later)
    )
    known = [question._replace(margin=None) for question in (*asked, *later)]
    explored = [*later, *(question for question in _against_base(arms, metrics) if question not in known)]
    deciding = dict.fromkeys([metrics[0].name, *(question.metric.name for question in known)]) if metrics else {}
    once = [question for place, question in enumerate(known) if question not in known[:place]]
    candidates = [question for question in (*once, *explored[len(later) :]) if question.metric.name in deciding]
    families, apart = [], []
    for family in (asked, explored):
        families.append(answer_family(arms, sets, family, seed=seed))
        taken_apart = take_apart(arms, sets, family, seed=seed)
        apply_trade_offs(families[-1], taken_apart)
        told = {each["title"] for each in apart}  # a pair of models may be in both families
        apart += [each for each in taken_apart if each["title"] not in told]
    entries = [entry for family in families for entry in family]
    one_run = any(entry["note"] == ONE_RUN for entry in entries)
    described = [
        describe_arm(
            samples[data],
            metrics,
            by_metric,
            model=model,
            data=data,
            template=template,
            seed=seed,
            alpha=ALPHA,
            groups=sets[data].groups,
            seen=sets[data].seen,
        )
        for (model, data, template), by_metric in arms.items()
    ]
    return {
        "schema": 1,
        "study": study,
        "alpha": ALPHA,
        "power": POWER,
        "rule_for_invalid": "wrong",
        "arms": described,
        "baselines": [
            baseline
            for data in sorted({data for _, data, _ in arms})
            for baseline in majority_baselines(data, samples[data], metrics)
        ],
        "stated": families[0],
        "exploratory": families[1],
        "yes_no": apart,
        "wordings": across_wordings([entry for entry in entries if entry["metric"] in deciding]),
        "sensitivity": by_wording(described, list(deciding)),
        "effects": factor_effects(arms, sets, factorials, [by_name[name] for name in deciding], seed=seed),
        "selection": best_of_several(arms, sets, candidates, seed=seed),
        "notes": [*accepted_notes, *([ONE_RUN] if one_run else []), *_not_ranked(entries)],
    }


def _not_ranked(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say of losses over different tokens that the table of all models does not rank them."""
    for metric in sorted({entry["metric"] for entry in entries if entry["reason"] == TOKENIZERS}):
        models = {
            model_in_words(entry[side])
            for entry in entries
            if (entry["metric"], entry["reason"]) == (metric, TOKENIZERS)
            for side in ("model", "against")
        }
        listed = ", ".join(sorted(models))
        yield f"{metric} of {listed} is per token, and their tokens differ: the values stand side by side, unranked"


def _places(arms: Arms, comparison: Comparison) -> list[tuple[str, str]]:
    """List the data sets and templates on which either side was asked.

    A comparison of models that were asked nothing keeps its place, to be refused by name.
    """
    sides = (comparison.model, comparison.against)
    places = sorted(
        {
            (data, template)
            for model, data, template in arms
            if any(side in (model, split_name(model)[0]) for side in sides) and comparison.data in (None, data)
        }
    )
    return places or [(comparison.data or "no data", "plain")]


def _asked_places(arms: Arms, comparison: Comparison, metric: Metric) -> list[tuple[str, str]]:
    """List where a stated question is asked: not on sets that its metric is not about, unless it is about none."""
    places = _places(arms, comparison)
    sides = (comparison.model, comparison.against)

    def is_about(place: tuple[str, str]) -> bool:
        found = [
            by_metric.get(metric.name, {})
            for (model, *rest), by_metric in arms.items()
            if tuple(rest) == place and any(side in (model, split_name(model)[0]) for side in sides)
        ]
        outcomes = {score.outcome for by_id in found for score in by_id.values()}
        return outcomes != {"not_applicable"}

    return [place for place in places if is_about(place)] or places


def _against_base(arms: Arms, metrics: Sequence[Metric]) -> Iterator[Asked]:
    """Ask how every model stands against base, by every metric that has a score of its own there."""
    for recipe in sorted({split_name(model)[0] for model, _, _ in arms} - {BASE}):
        for data, template in _places(arms, Comparison(model=recipe, against=BASE)):
            names = [model for model, *place in arms if split_name(model)[0] == recipe and place == [data, template]]
            if (BASE, data, template) not in arms:
                continue
            for metric in metrics:
                found = [arms[name, data, template].get(metric.name, {}) for name in names]
                if any(score.outcome != "not_applicable" for by_id in found for score in by_id.values()):
                    yield Asked(recipe, BASE, metric, data, template)
