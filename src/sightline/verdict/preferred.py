"""How often one model's answers were preferred to another's by people who did not know whose was whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sightline.verdict.columns import number_groups, possible_ends
from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.reviewers import Preference
from sightline.verdict.sentences import level
from sightline.verdict.statistics import clustered_mean, t_interval

Texts = Mapping[str, str]
"""Sample id to the hash of the answer's text, of one model on one data set in one wording."""


def count_preferences(
    preferences: Sequence[Preference], ours: Texts, theirs: Texts, groups: Mapping[str, str], *, alpha: float
) -> dict[str, Any] | None:
    """Count what people preferred.

    Args:
        preferences: on the data set and in the wording that the answers are of.
        ours: the model's answers.
        theirs: those of the model it is compared with.
        groups: of the data set, from `group_names`.
        alpha: one minus the interval's coverage.

    Returns:
        `preferred`, `ties` and `not_preferred` at first sight; `win_rate` (a tie is half; reviewers averaged question
        by question) with its clustered interval; how many answers were equal and asked nobody, and how many pairs shown
        again the other way round changed sides. None where nobody looked at answers of the two.
    """
    by_question: dict[str, list[float]] = {}
    by_person: dict[tuple[str, str], list[float]] = {}
    counts: Counter[str] = Counter()
    for one, value in _ours_first(preferences, ours, theirs):
        by_person.setdefault((one.reviewer, one.left.sample_id), []).append(value)
        if not one.is_repeat:
            by_question.setdefault(one.left.sample_id, []).append(value)
            counts[{1.0: "preferred", 0.0: "not_preferred"}.get(value, "ties")] += 1
    if not by_question:
        return None
    values_N = np.array([sum(values) / len(values) for values in by_question.values()])
    clusters_N = number_groups(groups, list(by_question))
    interval = None
    if len(set(clusters_N.tolist())) >= MIN_GROUPS and np.ptp(values_N) > 0:
        interval = list(possible_ends(t_interval(clustered_mean(values_N, clusters_N), alpha=alpha), "rate"))
    twice = [values for values in by_person.values() if len(values) > 1]
    found = {
        **{name: counts[name] for name in ("preferred", "ties", "not_preferred")},
        "win_rate": float(values_N.mean()),
        "interval": interval,
        "num_questions": len(by_question),
        "num_equal": sum(text == theirs.get(name) for name, text in ours.items()),
        "num_shown_twice": len(twice),
        "num_order_decided": sum(len(set(values)) > 1 for values in twice),
    }
    return found | {"sentence": _say(found)}


def _say(found: Mapping[str, Any]) -> str:
    interval = "no interval"
    if found["interval"]:
        low, high = (100 * end for end in found["interval"])
        interval = f"95% CI {low:.1f} to {high:.1f}"
    twice = f"; the order decided {found['num_order_decided']} of {found['num_shown_twice']} shown both ways round"
    counted = f"{found['preferred']:,} times, neither {found['ties']:,}, the other one {found['not_preferred']:,}"
    return (
        f"preferred in {level(found['win_rate'], 'rate')} of {found['num_questions']:,} pairs ({interval}; {counted}); "
        f"{found['num_equal']:,} more answers were equal{twice if found['num_shown_twice'] else ''}."
    )


def _ours_first(preferences: Sequence[Preference], ours: Texts, theirs: Texts) -> Iterator[tuple[Preference, float]]:
    """What is about these two models' answers, with the value turned to the model's side."""
    for one in preferences:
        name = one.left.sample_id
        sides = (one.left.answer_sha256, one.right.answer_sha256)
        asked = (ours.get(name), theirs.get(name))
        if one.value is not None and sides in (asked, asked[::-1]):
            yield one, one.value if sides == asked else 1 - one.value
