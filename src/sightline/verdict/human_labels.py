"""What people's labels tell of metrics and models: how often a metric agrees with people, and scores corrected by them.

People look at some of the answers, a metric or judge at all of them. Labels of answers drawn at random correct the
metric's scores (`ppi`); answers that were picked because metrics disagree only say who is right there.

Shape suffixes: N answers or questions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sightline.records import Sample, Score
from sightline.scoring.agreement import cohen_kappa
from sightline.scoring.metric import Metric
from sightline.verdict.columns import group_names, number_groups, possible_ends, score_columns
from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.ppi import corrected_mean
from sightline.verdict.preferred import count_preferences
from sightline.verdict.reviewers import (
    Label,
    Preference,
    Told,
    agreement_on_labels,
    agreement_on_preferences,
    says_right,
)
from sightline.verdict.sentences import level, measured_by, model_in_words, subject, with_interval
from sightline.verdict.statistics import clustered_mean, effective_number, t_interval, wilson_interval

NUM_FOR_HEADLINE = 50
"""Labels of a model's answers from which the corrected score stands before the metric's own."""

MAX_UNLABELLED = 0.1
"""Share of the drawn questions that may lack a label; above it, those that have one need not be like the others."""

Place = tuple[str, str, str]
"""A model, a data set and a template: one arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answers, of some of which people said something.

    Args:
        texts: arm to sample id to the hash of the answer's text.
        samples: data set to sample id to sample.
        scores: arm to metric name to scores, as `read_scores` gives them.
        metrics: the study's; used are those of which `says_right`.
        pairs: comparisons: a model, the one it is compared with, data set and template.
    """

    texts: Mapping[Place, Mapping[str, str]]
    samples: Mapping[str, Mapping[str, Sample]]
    scores: Mapping[Place, Mapping[str, Sequence[Score]]]
    metrics: Sequence[Metric]
    pairs: Sequence[tuple[str, str, str, str]]


def use_labels(
    labels: Sequence[Label], preferences: Sequence[Preference], answered: Answered, *, alpha: float = 0.05
) -> list[dict[str, Any]]:
    """Say what people's labels and preferences tell of metrics and models.

    Args:
        labels: one per reviewer and answer.
        preferences: one per reviewer, two answers and order.
        answered: what they are of.
        alpha: one minus the intervals' coverage.

    Returns:
        entries of compare.json, each with a `title`, a `sentence` and a `kind`: "reviewers" (one: counts, and how far
        they agree; nobody is named), "metric" (against people), "model" and "difference" (corrected), "preference".
    """
    given = {Told(*arm[1:], name, text) for arm, texts in answered.texts.items() for name, text in texts.items()}
    current = [label for label in labels if label.of in given]
    shown = [one for one in preferences if {one.left, one.right} <= given]
    groups = {data: group_names(samples) for data, samples in answered.samples.items()}
    ruler = _Ruler(
        answered=answered,
        groups=groups,
        values=_averaged(current),
        random={label.of for label in current if label.is_random},
        drawn={label.of[:3] for label in labels if label.is_random},
        alpha=alpha,
    )
    reviewers = {
        "num_reviewers": len({one.reviewer for one in (*labels, *preferences)}),
        "num_labels": sum(label.value is not None for label in current),
        "num_answers": len(ruler.values),
        "num_preferences": sum(one.value is not None for one in shown),
        "num_cannot_say": sum(one.value is None for one in (*current, *shown)),
        "num_stale": len(labels) - len(current) + len(preferences) - len(shown),
        "agreement": {"labels": agreement_on_labels(current), "preferences": agreement_on_preferences(shown)},
    }
    entries = [{"kind": "reviewers", "title": "reviewers", **reviewers, "sentence": _say_reviewers(reviewers)}]
    metrics = [metric for metric in answered.metrics if says_right(metric)]
    entries += [{"kind": "metric", **found} for metric in metrics if (found := ruler.against_people(metric))]
    for metric in metrics:
        arms = ruler.labelled_arms(metric)
        entries += [{"kind": "model", **ruler.correct(metric, arm)} for arm in arms]
        entries += [
            {"kind": "difference", **ruler.correct_difference(metric, *pair)}
            for pair in answered.pairs
            if {(pair[0], *pair[2:]), (pair[1], *pair[2:])} <= set(arms)
        ]
    for model, against, data, template in answered.pairs:
        here = [one for one in shown if (one.left.data, one.left.template) == (data, template)]
        ours, theirs = (answered.texts.get((name, data, template), {}) for name in (model, against))
        if counts := count_preferences(here, ours, theirs, groups[data], alpha=alpha):
            place = {"model": model, "against": against, "data": data, "template": template}
            entries.append(
                {"kind": "preference", "title": subject({**place, "metric": "side by side"}), **place, **counts}
            )
    return entries


def _averaged(labels: Sequence[Label]) -> dict[Told, float]:
    """What people said of each answer, averaged; "cannot say" says nothing."""
    by_answer: dict[Told, list[float]] = {}
    for label in labels:
        if label.value is not None:
            by_answer.setdefault(label.of, []).append(label.value)
    return {of: sum(values) / len(values) for of, values in sorted(by_answer.items())}


class _Ruler(NamedTuple):
    """Measures metrics and models by people's labels.

    Args:
        answered: the answers.
        groups: data set to sample id to group.
        values: what people said of each answer.
        random: answers to questions drawn at random.
        drawn: questions drawn at random, labelled or not, as the first three fields of `Told`.
        alpha: one minus the intervals' coverage.
    """

    answered: Answered
    groups: Mapping[str, Mapping[str, str]]
    values: Mapping[Told, float]
    random: set[Told]
    drawn: set[tuple[str, str, str]]
    alpha: float

    def judged(self, metric: Metric, arm: Place) -> dict[str, float]:
        """A metric's value of each of an arm's answers that it counts."""
        counted = [
            score
            for score in self.answered.scores.get(arm, {}).get(metric.name, ())
            if score.outcome in ("scored", "unparsed") and score.sample_id in self.answered.texts[arm]
        ]
        column_N = score_columns(metric, counted, ("value",))[:, 0] if counted else ()
        return {score.sample_id: float(value) for score, value in zip(counted, column_N, strict=True)}

    def label(self, arm: Place, sample_id: str) -> float:
        """People's label of an arm's answer to a question drawn at random; nan where there is none."""
        told = Told(*arm[1:], sample_id, self.answered.texts[arm][sample_id])
        return self.values.get(told, math.nan) if told in self.random else math.nan

    def labelled_arms(self, metric: Metric) -> list[Place]:
        """The arms of which people labelled, drawn at random, an answer that the metric counts."""
        return [
            arm
            for arm in self.answered.texts
            if any(not math.isnan(self.label(arm, name)) for name in self.judged(metric, arm))
        ]

    def against_people(self, metric: Metric) -> dict[str, Any] | None:
        """How often a metric and people say the same; None where they looked at no answer together."""
        judged: dict[Told, bool] = {}
        for arm, texts in self.answered.texts.items():
            for name, value in self.judged(metric, arm).items():
                judged[Told(*arm[1:], name, texts[name])] = value >= 0.5
        # Half of the people each way is no label that a metric could miss.
        people = {of: value > 0.5 for of, value in self.values.items() if of in judged and value != 0.5}
        drawn = [of for of in people if of in self.random]
        picked = [of for of in people if of not in self.random]
        if not people:
            return None
        said = Counter((people[of], judged[of]) for of in drawn)
        found = {
            "metric": metric.name,
            "num_answers": len(drawn),
            "agreement": _share(said[True, True] + said[False, False], said[True, False] + said[False, True]),
            "interval": self._interval_of_share(drawn, [people[of] == judged[of] for of in drawn]),
            "kappa": cohen_kappa([people[of] for of in drawn], [judged[of] for of in drawn]),
            "sensitivity": _share(said[True, True], said[True, False]),
            "specificity": _share(said[False, False], said[False, True]),
            "num_picked": len(picked),
            "num_picked_same": sum(people[of] == judged[of] for of in picked),
        }
        return {"title": f"{metric.name} against people", **found, "sentence": _say_metric(found)}

    def _interval_of_share(self, answers: Sequence[Told], yes: Sequence[bool]) -> list[float] | None:
        groups = {str(number): f"{of.data}/{self.groups[of.data][of.sample_id]}" for number, of in enumerate(answers)}
        if len(set(groups.values())) < MIN_GROUPS:
            return None
        values_N = np.array(yes, dtype=np.float64)
        number = effective_number(values_N, number_groups(groups, list(groups)))
        return _ends(wilson_interval(float(values_N.mean()), number, alpha=self.alpha))

    def correct(self, metric: Metric, arm: Place) -> dict[str, Any]:
        """Correct one model's score."""
        judged = self.judged(metric, arm)
        found = self._estimate(arm[1], arm[2], judged, [self.label(arm, name) for name in judged])
        if found["interval"]:
            found["value"] = possible_ends((found["value"],) * 2, "rate")[0]
            found["interval"] = list(possible_ends(found["interval"], "rate"))
            found["human_interval"] = list(possible_ends(found["human_interval"], "rate"))
        elif not any(arm in ((pair[0], *pair[2:]), (pair[1], *pair[2:])) for pair in self.answered.pairs):
            # Its answers are shown to nobody; what labels it has are of another model's equal answers.
            found["reason"] = f"{arm[0]} is not among the models reviewed"
        place = {"model": arm[0], "data": arm[1], "template": arm[2], "metric": metric.name}
        title = f"{model_in_words(arm[0])}, {measured_by(place)}"
        return {"title": title, **place, **found, "sentence": _say_level({**place, **found})}

    def correct_difference(self, metric: Metric, model: str, against: str, data: str, template: str) -> dict[str, Any]:
        """Correct the difference of two models, question by question."""
        ours, theirs = (model, data, template), (against, data, template)
        first, second = self.judged(metric, ours), self.judged(metric, theirs)
        judged = {name: first[name] - second[name] for name in first if name in second}
        found = self._estimate(data, template, judged, [self.label(ours, n) - self.label(theirs, n) for n in judged])
        for key in ("interval", "human_interval"):
            found[key] = found[key] and list(possible_ends(found[key], "rate", of_change=True))
        place = {"model": model, "against": against, "data": data, "template": template, "metric": metric.name}
        return {"title": subject(place), **place, **found, "sentence": _say_difference({**place, **found})}

    def _estimate(
        self, data: str, template: str, judged: Mapping[str, float], labels: Sequence[float]
    ) -> dict[str, Any]:
        judged_N, labels_N = np.array(list(judged.values())), np.array(labels)
        labelled_N = ~np.isnan(labels_N)
        names = [name for name, labelled in zip(judged, labelled_N, strict=True) if labelled]
        num_drawn = sum((data, template, name) in self.drawn for name in judged)
        num_groups = len({self.groups[data][name] for name in names})
        num_missing = num_drawn - len(names)
        reason = ""
        if num_groups < MIN_GROUPS:
            reason = f"labels on {num_groups} images, and {MIN_GROUPS} are needed"
        elif num_missing > max(1, MAX_UNLABELLED * num_drawn):
            reason = f"{num_missing} of {num_drawn} drawn questions lack a label, and may be unlike the others"
        elif np.ptp(labels_N[labelled_N]) == 0:
            reason = "all labels are the same, so their uncertainty cannot be estimated"
        found: dict[str, Any] = {
            **dict.fromkeys(("value", "interval", "standard_error", "degrees_of_freedom", "weight", "human_interval")),
            "judged": float(judged_N.mean()) if len(judged_N) else None,
            "human": float(labels_N[labelled_N].mean()) if names else None,
            "num_labels": len(names),
            "num_groups": num_groups,
            "num_questions": len(judged_N),
            "headline": not reason and len(names) >= NUM_FOR_HEADLINE,
            "reason": reason,
        }
        if reason:
            return found
        corrected = corrected_mean(labels_N, judged_N, number_groups(self.groups[data], list(judged)))
        alone = clustered_mean(labels_N[labelled_N], number_groups(self.groups[data], names))
        return found | {
            "value": float(corrected.estimate.value),
            "interval": _ends(t_interval(corrected.estimate, alpha=self.alpha)),
            "standard_error": float(corrected.estimate.standard_error),
            "degrees_of_freedom": corrected.estimate.degrees_of_freedom,
            "weight": corrected.weight,
            "human_interval": _ends(t_interval(alone, alpha=self.alpha)),
        }


def _share(yes: int, no: int) -> float | None:
    return yes / (yes + no) if yes + no else None


def _ends(interval: tuple[Any, Any]) -> list[float]:
    return [float(end) for end in interval]


def _say_reviewers(found: Mapping[str, Any]) -> str:
    said = [
        f"{found['num_labels']:,} labels of {found['num_answers']:,} answers and {found['num_preferences']:,} "
        f"preferences by {found['num_reviewers']} {'person' if found['num_reviewers'] == 1 else 'people'} who were not "
        "told which model answered"
    ]
    if found["num_cannot_say"]:
        said.append(f"{found['num_cannot_say']:,} times nobody could say")
    for name, about in (("labels", "answers"), ("preferences", "pairs")):
        among = found["agreement"][name]
        if among["num_shared"]:
            alpha = "undefined" if among["alpha"] is None else f"{among['alpha']:.2f}"
            said.append(f"alpha {alpha} on {among['num_shared']:,} {about} that two or more judged")
    if found["num_stale"]:
        said.append(f"{found['num_stale']:,} judgements are of answers that no model gives any more, and are not used")
    return "; ".join(said) + "."


def _say_metric(found: Mapping[str, Any]) -> str:
    said = []
    if found["num_answers"]:
        interval = f"no interval on fewer than {MIN_GROUPS} images"
        if found["interval"]:
            low, high = (100 * end for end in found["interval"])
            interval = f"95% CI {low:.1f} to {high:.1f}"
        kappa = "undefined" if found["kappa"] is None else f"{found['kappa']:.2f}"
        said.append(
            f"the same on {level(found['agreement'], 'rate')} of {found['num_answers']:,} answers drawn at random "
            f"({interval}; kappa {kappa})"
        )
    if found["num_picked"]:
        said.append(
            f"where metrics disagree, people side with it on {found['num_picked_same']:,} of {found['num_picked']:,}"
        )
    return "; ".join(said) + "."


def _say_level(entry: Mapping[str, Any]) -> str:
    labelled = f"{entry['num_labels']:,} of {entry['num_questions']:,} answers labelled by people"
    if entry["reason"]:
        return f"{entry['metric']} cannot be corrected: {entry['reason']} ({labelled})."
    low, high = (100 * end for end in entry["interval"])
    return (
        f"people would call {level(entry['value'], 'rate')} of the answers correct (95% CI {low:.1f} to {high:.1f}; "
        f"{labelled}); {entry['metric']} by itself: {level(entry['judged'], 'rate')}."
    )


def _say_difference(entry: Mapping[str, Any]) -> str:
    labelled = f"{entry['num_labels']:,} of {entry['num_questions']:,} questions labelled by people"
    if entry["reason"]:
        return f"{entry['metric']} cannot be corrected: {entry['reason']} ({labelled})."
    return (
        f"{with_interval(entry['value'], entry['interval'], 'rate')} in answers that people would call correct "
        f"({labelled}); {entry['metric']} by itself: {100 * entry['judged']:+.1f}."
    )
