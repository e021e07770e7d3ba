"""What reviewers say: labels of single answers, preferences between two; how far they agree, and what metrics can."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sightline.scoring.agreement import cohen_kappa, krippendorff_alpha
from sightline.scoring.metric import Metric


class Told(NamedTuple):
    """What was looked at: an answer to a question, known by the hash of its text, whoever gave it."""

    data: str
    template: str
    sample_id: str
    answer_sha256: str


def answer_sha256(text: str) -> str:
    """Hash an answer's text; half a character, which a model may well say, has its hash too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What one person said of one answer.

    Args:
        reviewer: who.
        of: the answer.
        value: 1 correct, 0 incorrect; None: cannot say.
        is_random: whether the question was drawn at random; False where it was picked because metrics disagree.
    """

    reviewer: str
    of: Told
    value: float | None
    is_random: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which of two answers to a question one person preferred.

    Args:
        reviewer: who.
        left: the answer shown on the left.
        right: the other one.
        value: 1 left, 0 right, 1/2 neither; None: cannot say.
        is_repeat: whether the person saw the same two before, the other way round.
    """

    reviewer: str
    left: Told
    right: Told
    value: float | None
    is_repeat: bool


def says_right(metric: Metric) -> bool:
    """Say whether a metric's value of one answer tells right from wrong: a rate, of which more is better."""
    return metric.kind == "mean" and metric.unit == "rate" and metric.higher_is_better and not metric.neutral


def agreement_on_labels(labels: Iterable[Label]) -> dict[str, Any]:
    """Say how far reviewers agree on single answers; see `agreement`."""
    return agreement({(one.reviewer, one.of): one.value for one in labels if one.value is not None})


def agreement_on_preferences(preferences: Iterable[Preference]) -> dict[str, Any]:
    """Say how far reviewers agree on which of two answers is better, at first sight; see `agreement`."""
    said: dict[tuple[str, tuple[Told, Told]], float] = {}
    for one in preferences:
        if one.value is not None and not one.is_repeat:
            first, second = sorted((one.left, one.right))
            said[one.reviewer, (first, second)] = one.value if one.left == first else 1 - one.value
    return agreement(said)


def agreement(said: Mapping[tuple[str, Any], float]) -> dict[str, Any]:
    """Say how far reviewers agree.

    Args:
        said: (reviewer, what it is about) to value; values name categories.

    Returns:
        `alpha` (Krippendorff's, nominal) and `kappas` (Cohen's, of each two reviewers, unnamed), None where chance
        explains everything; `num_shared`: what at least two judged.
    """
    names = sorted({reviewer for reviewer, _ in said})
    judged = sorted({of for _, of in said})
    table = [[said.get((name, of)) for of in judged] for name in names]
    return {
        "alpha": krippendorff_alpha(table, "nominal") if len(names) > 1 else None,
        "kappas": [cohen_kappa(a, b) for place, a in enumerate(table) for b in table[place + 1 :]],
        "num_shared": sum(sum(value is not None for value in values) > 1 for values in zip(*table, strict=True)),
    }
