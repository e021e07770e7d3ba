"""What is missing where questions have no score: a model's answer, a judge's reply, or the scorer's own result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sightline.scoring.metrics import Metric
from sightline.verdict.columns import ArmScores


def what_is_missing(metric: Metric, failed: Iterable[str], arms: Sequence[ArmScores]) -> str:
    """Count what is missing, by what the scores' reasons begin with; a judge goes by the name of its metric.

    Args:
        metric: of the scores.
        failed: samples without a score in some arm.
        arms: all of them.
    """
    missing = {
        "no answer": "no answer came",
        "unanswered": "no answer came",
        "failed": f"judge {metric.name} did not reply",
        "unreadable": f"judge {metric.name} could not be read",
    }
    first = (next(arm[name] for arm in arms if arm[name].outcome == "failed") for name in failed)
    found = Counter(missing.get((score.reason or "").partition(":")[0], f"{metric.name} failed") for score in first)
    return ", ".join(f"{what} on {num:,}" for what, num in sorted(found.items()))
