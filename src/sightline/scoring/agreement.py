"""Several judges of the same answers: how far they agree, and whether the conclusion depends on which is believed.

Shapes: C categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sightline.records import Score
from sightline.scoring.metric import Metric

UNDECIDED = "cannot decide"
"""The verdict of a comparison about which a judge's scores say nothing."""


def cohen_kappa(first: Sequence[Hashable | None], second: Sequence[Hashable | None]) -> float | None:
    """Compute Cohen's kappa of two raters, over what both rated.

    Returns:
        Kappa; None where nothing was rated by both, or both used one category alone, so that chance explains all.

    Source: Cohen 1960.
    """
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both:
        return None
    observed = sum(a == b for a, b in both) / len(both)
    left, right = Counter(a for a, _ in both), Counter(b for _, b in both)
    expected = sum(left[category] * right[category] for category in left) / len(both) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]], level: Literal["nominal", "ordinal", "interval"] = "interval"
) -> float | None:
    """Compute Krippendorff's alpha of several raters who need not have rated everything.

    Args:
        ratings: numbers; for `nominal` they only name categories.
        level: how far apart two ratings are: differ or not, by ranks, or by the squared difference.

    Returns:
        Alpha; None where no answer has two ratings, or all ratings are equal.

    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".
    """
    units = [[value for value in values if value is not None] for values in zip(*ratings, strict=True)]
    units = [values for values in units if len(values) > 1]
    categories = sorted({value for values in units for value in values})
    if len(categories) < 2:
        return None
    place = {category: number for number, category in enumerate(categories)}
    coincidences_CC = np.zeros((len(categories), len(categories)))
    for values in units:
        for i, a in enumerate(values):
            for j, b in enumerate(values):
                if i != j:
                    coincidences_CC[place[a], place[b]] += 1 / (len(values) - 1)
    totals_C = coincidences_CC.sum(axis=1)
    distances_CC = _distances(np.array(categories, dtype=np.float64), totals_C, level)
    observed = (coincidences_CC * distances_CC).sum()
    expected = (np.outer(totals_C, totals_C) * distances_CC).sum() / (totals_C.sum() - 1)
    return float(1 - observed / expected)


def _distances(categories_C: np.ndarray, totals_C: np.ndarray, level: str) -> np.ndarray:
    if level == "nominal":
        return 1.0 - np.eye(len(categories_C))
    if level == "interval":
        return (categories_C[:, None] - categories_C[None, :]) ** 2
    # Ordinal: all ratings from the one category to the other, half of the two themselves.
    middle_C = np.cumsum(totals_C) - totals_C / 2
    return (middle_C[:, None] - middle_C[None, :]) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesTogether:
    """What several judges say of one comparison of two models.

    Args:
        alpha: Krippendorff's, of their values of single answers.
        num_answers: answers that at least two of them judged.
        kappas: Cohen's kappa of each pair of judges, of "at least half of what can be had" or not.
        verdicts: judge to its conclusion, in the verdict's words ("improved", "no detectable difference", ...).
        depends: whether the conclusion depends on the judge, among those that could decide.
    """

    alpha: float | None
    num_answers: int
    kappas: Mapping[str, float | None]
    verdicts: Mapping[str, str]
    depends: bool

    def sentence(self) -> str:
        """Say it in words."""
        said = ", ".join(f"{judge}: {verdict}" for judge, verdict in self.verdicts.items())
        alpha = "undefined" if self.alpha is None else f"{self.alpha:.2f}"
        agree = f"agreement of {len(self.verdicts)} judges on {self.num_answers} answers: alpha {alpha}"
        conclusion = "the conclusion depends on the judge" if self.depends else "every judge concludes the same"
        if sum(verdict != UNDECIDED for verdict in self.verdicts.values()) < 2:
            conclusion = "fewer than two judges could decide, so none bears out another"
        return f"{conclusion} ({said}); {agree}"


def judges_together(
    values: Mapping[str, Mapping[Hashable, float | None]], verdicts: Mapping[str, str]
) -> JudgesTogether:
    """Put several judges of the same answers beside each other.

    Args:
        values: judge to answer to value in [0, 1], higher is better; None or absent where not judged.
        verdicts: judge to its conclusion about the two models.
    """
    names = list(values)
    answers = sorted({answer for judged in values.values() for answer in judged}, key=str)
    table = [[values[name].get(answer) for answer in answers] for name in names]
    halves = [[None if value is None else value >= 0.5 for value in row] for row in table]
    kappas = {
        f"{names[i]}, {names[j]}": cohen_kappa(halves[i], halves[j])
        for i in range(len(names))
        for j in range(i + 1, len(names))
    }
    return JudgesTogether(
        alpha=krippendorff_alpha(table),
        num_answers=sum(sum(row[n] is not None for row in table) > 1 for n in range(len(answers))),
        kappas=kappas,
        verdicts=dict(verdicts),
        depends=len({verdict for verdict in verdicts.values() if verdict != UNDECIDED}) > 1,
    )


def compare_judges(
    scores: Mapping[tuple[str, str, str], Mapping[str, Sequence[Score]]],
    judges: Mapping[str, Metric],
    entries: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Say for every comparison that several judges decided whether they agree.

    Args:
        scores: (model, data set, template) to metric to scores, as `read_scores` gives them.
        judges: the metrics that are judges.
        entries: the comparisons of compare.json, stated and exploratory.

    Returns:
        One row per comparison of two models by two judges or more: verdicts, whether they differ, agreement, and a
        sentence.
    """
    grouped: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for entry in entries:
        if entry["metric"] in judges:
            place = (entry["model"], entry["against"], entry["data"], entry["template"])
            grouped.setdefault(place, {})[entry["metric"]] = entry["verdict"]
    rows = []
    for (model, against, data, template), verdicts in grouped.items():
        if len(verdicts) < 2:
            continue
        values: dict[str, dict[Any, float | None]] = {name: {} for name in verdicts}
        for (arm, arm_data, arm_template), by_metric in scores.items():
            if arm.partition("@")[0] in (model.partition("@")[0], against.partition("@")[0]) and (
                arm_data,
                arm_template,
            ) == (data, template):
                for name in verdicts:
                    for score in by_metric.get(name, ()):
                        values[name][arm, score.sample_id] = _good(score, judges[name])
        together = judges_together(values, verdicts)
        place = {"model": model, "against": against, "data": data, "template": template}
        rows.append({**place, **asdict(together), "sentence": together.sentence()})
    return rows


def _good(score: Score, metric: Metric) -> float | None:
    """A score as a value of which more is better."""
    if score.outcome != "scored":
        return None
    value = metric.combine(score.parts) if metric.combine else score.value
    return value if value is None or metric.higher_is_better else 1 - value
