"""What a test set can show: the smallest difference that the planned comparisons can detect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from sightline.checking.findings import Finding
from sightline.data.groups import about_images, count_images, picture_groups
from sightline.records import Sample

CHANGED = 0.2
"""Share of questions on which two models of a study differ, for planning; 10 to 30% is usual."""

IMAGE_CORRELATION = 0.1
"""Correlation of two differences about one image: 0.1 where a model's skill varies from image to image with half the
standard deviation of a question's difficulty, as in the simulations the tests are calibrated by
(tests/verdict/test_calibration.py); 0.28 where it varies as much."""


def check_enough(
    data: str, samples: Sequence[Sample], *, least: int, decisive: int = 0, by: str = ""
) -> Iterator[Finding]:
    """Find a test set with too few pictures for any verdict.

    Args:
        data: the test set.
        samples: the questions.
        least: the fewest groups of questions, none of which shares a picture with another, that a verdict is given on.
        decisive: the fewest on which a difference can be called real in as many comparisons as are planned.
        by: the metric, where it does not count every question.
    """
    num_images, num_groups = count_images(samples)
    if num_groups >= max(least, decisive):
        return
    name, _, split = data.rpartition(".")
    independent = "images" if num_groups == num_images else "independent groups"
    follows = f"with fewer than {least} {independent} there is no interval and no verdict"
    if num_groups >= least:
        follows = (
            f"with fewer than {decisive} {independent} no difference can be called real in the planned comparisons"
        )
    yield Finding(
        name="few-test-images",
        severity="warning",
        message=f"{data}: {f'by {by}, ' if by else ''}{len(samples):,} questions are about "
        f"{about_images(num_images, num_groups)}; {follows}, whatever the models answer",
        remedy=f"raise the share of {split} in data.{name}.split, or add pictures" if name else "add pictures",
        evidence={
            "num_questions": len(samples),
            "num_images": num_images,
            "num_groups": num_groups,
            "least": max(least, decisive),
        },
    )


def check_detectable(
    data: str,
    samples: Sequence[Sample],
    *,
    by: str,
    num_comparisons: int,
    detectable: Callable[[float, float, float], float],
) -> Iterator[Finding]:
    """Say how large a difference must be for the planned comparisons to detect it.

    Taken is what `sightline power` takes: two differences about one picture (or one group that shares pictures)
    correlate by `IMAGE_CORRELATION`. Two bounds are given with it: such questions tell as much as any others, or no
    more than one of them does. Pictures have the questions they have, where `power` takes equal numbers.

    Args:
        data: the test set.
        samples: the questions that the metric counts.
        by: the metric.
        num_comparisons: planned by this metric, corrected together.
        detectable: gives the difference from standard error, degrees of freedom and false-alarm rate.
    """
    per_group = Counter(picture_groups(samples))
    if len(per_group) < 2:
        return
    num_images, num_groups = count_images(samples)
    what = "about one image" if num_images == num_groups else "of one group"
    squares = sum(count**2 for count in per_group.values())

    def points(correlation: float) -> float:
        error = math.sqrt(CHANGED * ((1 - correlation) * len(samples) + correlation * squares)) / len(samples)
        return 100 * detectable(error, num_groups - 1, 0.05 / num_comparisons)

    expected, least, most = points(IMAGE_CORRELATION), points(0), points(1)
    several = num_groups < len(samples)
    hopeless = expected > 100 * CHANGED
    yield Finding(
        name="detectable-difference",
        severity="warning" if hopeless else "note",
        message=f"{data}: by {by}, {len(samples):,} questions on {about_images(num_images, num_groups)} can detect a "
        f"difference of {expected:.1f} points or more (80% power, planned comparisons: {num_comparisons}, models "
        f"differing on {CHANGED:.0%} of the questions"
        + (
            f", two differences {what} correlating by {IMAGE_CORRELATION:g}); {least:.1f} points if questions {what} "
            f"were independent, {most:.1f} if they were answered alike"
            if several
            else ")"
        )
        + (". Such models cannot be that far apart, so this test set shows nothing" if hopeless else ""),
        remedy="ask about more images" if hopeless else "",
        evidence={
            "points": expected,
            "points_if_independent": least,
            "points_if_alike": most,
            "num_questions": len(samples),
            "num_images": num_images,
            "num_groups": num_groups,
        },
    )
