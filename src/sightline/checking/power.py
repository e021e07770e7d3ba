"""What a test set can show: the smallest difference that the planned comparisons can detect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from sightline.checking.findings import Finding
from sightline.records import Sample

CHANGED = 0.2
"""Share of questions on which two models of a study differ, for planning; 10 to 30% is usual."""


def check_detectable(
    data: str,
    samples: Sequence[Sample],
    *,
    by: str,
    num_comparisons: int,
    detectable: Callable[[float, float, float], float],
) -> Iterator[Finding]:
    """Say how large a difference must be for the planned comparisons to detect it.

    Two bounds are given: questions about one picture tell as much as any others, or no more than one of them does.

    Args:
        data: the test set.
        samples: the questions that the metric counts.
        by: the metric.
        num_comparisons: planned by this metric, corrected together.
        detectable: gives the difference from standard error, degrees of freedom and false-alarm rate.
    """
    per_image = Counter(sample.image_id for sample in samples)
    if len(per_image) < 2:
        return
    alpha = 0.05 / num_comparisons
    low = math.sqrt(CHANGED / len(samples))
    high = math.sqrt(CHANGED * sum(count**2 for count in per_image.values())) / len(samples)
    least, most = (100 * detectable(error, len(per_image) - 1, alpha) for error in (low, high))
    yield Finding(
        name="detectable-difference",
        severity="note",
        message=f"{data}: by {by}, {len(samples):,} questions on {len(per_image):,} images can detect a difference of "
        f"{least:.1f} points or more (80% power, planned comparisons: {num_comparisons}, models differing on "
        f"{CHANGED:.0%} of the questions), of {most:.1f} points if questions about one image answer alike",
        evidence={
            "points": least,
            "points_if_alike": most,
            "num_questions": len(samples),
            "num_images": len(per_image),
        },
    )
