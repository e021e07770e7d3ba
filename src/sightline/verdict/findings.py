"""What a question's numbers amount to: corrected for their family, and tried under every counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sightline.scoring.metrics import Metric
from sightline.verdict.pairs import Difference, Refusal
from sightline.verdict.sentences import DISAGREE, INVALID, SEEN, SMALLER
from sightline.verdict.statistics import holm

ALPHA = 0.05
POWER = 0.8
MAX_SEEN = 0.05
"""Share of the questions that training may have seen before the others must bear the verdict out."""

Finding = Literal[
    "improved",
    "regressed",
    "changed",
    "significant but smaller than your margin",
    "equivalent",
    "not worse",
    "no detectable difference",
    "tests disagree",
    "not estimable",
]

Counting = Literal["wrong", "left_out", "clean"]
"""Unparsed answers counted wrong (the primary rule); left out; or only the questions that training has not seen."""


class Adjusted(NamedTuple):
    """A question's p values within its family, T1 and T2; 1 where there is nothing to test."""

    p: float = 1.0
    p_check: float = 1.0
    p_not_worse: float = 1.0
    p_check_not_worse: float = 1.0
    p_equivalent: float = 1.0
    p_check_equivalent: float = 1.0

    @property
    def not_worse(self) -> bool:
        """Whether both tests say so."""
        return max(self.p_not_worse, self.p_check_not_worse) < ALPHA

    @property
    def equivalent(self) -> bool:
        """Whether both tests say so."""
        return max(self.p_equivalent, self.p_check_equivalent) < ALPHA


def adjust(family: Sequence[Difference | Refusal]) -> list[Adjusted]:
    """Adjust both tests within a family, each by itself; what cannot be estimated has p = 1.

    A question with a margin has further tests; whatever the truth, only one of its claims can be false, so it counts
    once.
    """
    of: list[int] = []
    names: list[str] = []
    main: list[float] = []
    check: list[float] = []
    for place, found in enumerate(family):
        tests = [("p", 1.0, 1.0)] if isinstance(found, Refusal) else [("p", found.p, found.p_check)]
        if isinstance(found, Difference) and (margin := found.margin):
            tests.append(("p_not_worse", margin.p_not_worse, margin.p_check_not_worse))
            tests.append(("p_equivalent", margin.p_equivalent, margin.p_check_equivalent))
        for name, p, p_check in tests:
            of.append(place)
            names.append(name)
            main.append(p)
            check.append(p_check)
    adjusted: list[dict[str, float]] = [{} for _ in family]
    for place, name, p, p_check in zip(of, names, holm(main, of=of), holm(check, of=of), strict=True):
        adjusted[place] |= {name: p, name.replace("p", "p_check", 1): p_check}
    return [Adjusted(**values) for values in adjusted]


def finding(difference: Difference | Refusal, adjusted: Adjusted, *, metric: Metric, num_runs: int) -> Finding:
    """Say what one way of counting finds: both tests must agree.

    The check cannot see the variance between training runs, so over several runs it may withhold a claim but its
    disagreement with a cautious interval means nothing.
    """
    if isinstance(difference, Refusal):
        return "not estimable"
    detected, checked = adjusted.p < ALPHA, adjusted.p_check < ALPHA
    if detected and checked:
        if difference.margin is not None and abs(difference.value) < difference.margin.margin:
            return SMALLER
        if metric.neutral:
            return "changed"
        return "improved" if (difference.value > 0) == metric.higher_is_better else "regressed"
    if adjusted.equivalent:
        return "equivalent"
    if adjusted.not_worse and not metric.neutral:
        return "not worse"
    if detected != checked and (detected or num_runs == 1):
        return "tests disagree"
    return "no detectable difference"


def verdict(
    findings: Mapping[Counting, Finding], bounds: Sequence[float], *, metric: Metric, margin: float | None = None
) -> tuple[str, str]:
    """Turn findings under every counting into a verdict and, for a borderline one, its reason.

    Args:
        findings: with unparsed answers counted wrong; where there are any, with their questions left out; and where
            training has seen more than `MAX_SEEN` of the questions, by the others alone.
        bounds: the difference if unparsed answers had been whatever suits one side best; none where all were parsed.
        metric: by which.
        margin: stated, or None.
    """
    primary = findings["wrong"]
    if primary == "tests disagree":
        return "borderline", DISAGREE
    if findings.get("left_out", primary) != primary or (bounds and _rests_on_bounds(primary, bounds, metric, margin)):
        return "borderline", INVALID
    if findings.get("clean", primary) != primary:
        return "borderline", SEEN
    return primary, ""


def _rests_on_bounds(primary: Finding, bounds: Sequence[float], metric: Metric, margin: float | None) -> bool:
    low, high = min(bounds), max(bounds)
    if primary in ("improved", "regressed", "changed", SMALLER):
        return low < 0 < high
    if margin is not None and primary == "equivalent":
        return max(-low, high) >= margin
    if margin is not None and primary == "not worse":
        return (-low if metric.higher_is_better else high) >= margin
    return False
