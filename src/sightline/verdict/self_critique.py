"""Whether a judge of two answers judges at all: agreement between both orders, and what its choices lean on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.statistics import effective_number, wilson_interval

CHANCE = 0.5
"""How often two orders agree when each is a coin; with a liking for a place or a letter they agree less often."""


def describe_duels(duels: Sequence[Mapping[str, Any]], *, alpha: float = 0.05) -> dict[str, Any]:
    """Say how far preferences can be trusted.

    Args:
        duels: `image_id`; `when_first` and `when_second`, what became of the first answer in that place (1 preferred,
            -1 the other one was, 0 neither); `num_words` of both answers.
        alpha: one minus the intervals' coverage.

    Returns:
        counts; rates with intervals clustered by image, None on fewer than `MIN_GROUPS` images: `agreement` of both
        orders where neither is a tie,
        `shown_first` how often the answer shown first is preferred, `longer` how often the longer of the two is where
        the orders agree; `at_chance`, whether the agreement's interval reaches one half or there is none; `sentence`.
    """
    decided = [duel for duel in duels if duel["when_first"] and duel["when_second"]]
    agreed = [duel for duel in decided if duel["when_first"] == duel["when_second"]]
    unequal = [duel for duel in agreed if duel["num_words"][0] != duel["num_words"][1]]
    agreement = _rate(decided, [float(duel["when_first"] == duel["when_second"]) for duel in decided], alpha)
    # Of the two showings, in how many the answer shown first is preferred.
    first = [((duel["when_first"] > 0) + (duel["when_second"] < 0)) / 2 for duel in decided]
    longer = [float((duel["when_first"] > 0) == (np.diff(duel["num_words"])[0] < 0)) for duel in unequal]
    found = {
        "num_duels": len(duels),
        "num_ties": len(duels) - len(decided),
        "num_agreed": len(agreed),
        "agreement": agreement,
        "shown_first": _rate(decided, first, alpha),
        "longer": _rate(unequal, longer, alpha),
        "at_chance": agreement is None or agreement["interval"] is None or agreement["interval"][0] <= CHANCE,
    }
    return found | {"sentence": _say(found)}


def say_making(counts: Mapping[str, int], found: Mapping[str, Any]) -> str:
    """Say how pairs were made of drawn answers, and which answers were not compared.

    Args:
        counts: `num_questions`, `num_drawn` answers, `num_empty` and `num_equal` ones among them, `num_near` twos that
            are nearly the same, `num_pairs` and `num_near_pairs` among them.
        found: by `describe_duels`.
    """
    each = counts["num_drawn"] // max(1, counts["num_questions"])
    told = [f"{counts['num_pairs']:,} pairs from {counts['num_questions']:,} questions, {each} answers each."]
    left_out = [
        f"{counts[name]:,} {what}"
        for name, what in (("num_empty", "empty answers"), ("num_equal", "answers that repeat another one"))
        if counts[name]
    ]
    if left_out:
        told.append(f"Not compared: {' and '.join(left_out)}.")
    told.append(f"Compared: {found['num_duels']:,} times two answers; {found['num_ties']:,} are ties.")
    if counts["num_near"]:
        told.append(
            f"{counts['num_near']:,} of them differ in less than 5% of their characters, as do "
            f"{counts['num_near_pairs']:,} of the pairs."
        )
    return " ".join([*told, found["sentence"]]).strip()


def _rate(duels: Sequence[Mapping[str, Any]], values: Sequence[float], alpha: float) -> dict[str, Any] | None:
    if not duels:
        return None
    values_N = np.asarray(values, dtype=np.float64)
    clusters_N = np.unique([duel["image_id"] for duel in duels], return_inverse=True)[1]
    interval = None
    if clusters_N.max() + 1 >= MIN_GROUPS:
        ends = wilson_interval(values_N.mean(), effective_number(values_N, clusters_N), alpha=alpha)
        interval = [float(end) for end in ends]
    return {"value": float(values_N.mean()), "interval": interval, "num": len(values_N)}


def _say(found: Mapping[str, Any]) -> str:
    agreement = found["agreement"]
    if agreement is None:
        return f"No preference in {found['num_duels']:,} pairs of answers: every one is a tie."
    told = f"Both orders agree on {_percent(agreement)} of {agreement['num']:,} pairs of answers"
    if agreement["interval"] is None:
        told += f"; fewer than {MIN_GROUPS} images cannot tell that from chance (50%)."
    elif agreement["interval"][1] < CHANCE:
        told += ", less often than by chance (50%): the place or the letter decides."
    elif found["at_chance"]:
        told += ", no better than chance (50%) as far as these can tell."
    else:
        told += "; chance would be 50%."
    if found["shown_first"]:
        told += f" The answer shown first is preferred {_percent(found['shown_first'])} of the time."
    if found["longer"]:
        told += f" Where both orders agree, the longer answer is preferred {_percent(found['longer'])} of the time."
    return told


def _percent(rate: Mapping[str, Any]) -> str:
    value = f"{100 * rate['value']:.0f}%"
    if rate["interval"] is None:
        return value
    low, high = rate["interval"]
    return f"{value} (95% interval {100 * low:.0f} to {100 * high:.0f})"
