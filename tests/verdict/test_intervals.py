"""An interval's ends are what the number can be; where there is no honest interval, the reason stands instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sightline.scoring.metrics import METRICS
from sightline.verdict.arms import FEW_IMAGES, SAME_EVERYWHERE
from sightline.verdict.columns import possible_ends

Compare = Callable[..., dict[str, Any]]
WORDS = METRICS["answer_length"]


@pytest.mark.parametrize(
    ("ends", "unit", "of_change", "possible"),
    [
        ((-0.1, 1.2), "rate", False, (0.0, 1.0)),
        ((-1.3, 1.2), "rate", True, (-1.0, 1.0)),
        ((-0.4, 7.0), "words", False, (0.0, 7.0)),
        ((-0.4, 7.0), "words", True, (-0.4, 7.0)),
        ((-0.4, 7.0), "nats", False, (0.0, 7.0)),
        ((-0.4, 7.0), "sd", False, (-0.4, 7.0)),
    ],
)
def test_ends_are_brought_to_what_can_be(
    ends: tuple[float, float], unit: str, of_change: bool, possible: tuple[float, float]
) -> None:
    assert possible_ends(ends, unit, of_change=of_change) == possible


def test_no_answer_has_fewer_words_than_none(compare: Compare) -> None:
    words = [0.0, 0.0, 0.0, 0.0, 0.0, 30.0]  # mean 5, standard error 5: t would reach down to -7.9
    (arm, _) = compare({"base": words, "sft": words[::-1]}, images=range(6), metric=WORDS)["arms"]
    measured = arm["metrics"]["answer_length"]
    assert measured["interval"][0] == 0.0 and measured["interval"][1] == pytest.approx(5 + 5 * 2.570582, abs=1e-5)
    assert measured["no_interval"] == ""


def test_a_difference_of_rates_is_at_most_all_of_them(compare: Compare) -> None:
    better = compare({"base": [0, 0, 0, 0, 0, 1], "sft": [1, 1, 1, 1, 1, 1]}, images=range(6))["stated"][0]
    values_N = np.array([1, 1, 1, 1, 1, 0])
    assert values_N.mean() + 2.570582 * values_N.std(ddof=1) / np.sqrt(6) > 1
    assert better["interval"][1] == 1.0 and better["difference"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("values", "images", "reason"),
    [
        ([1, 0, 1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3, 3], FEW_IMAGES),
        ([1, 0, 1, 0, 1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], ""),
    ],
)
def test_four_images_have_no_interval(compare: Compare, values: list[int], images: list[int], reason: str) -> None:
    (arm, _) = compare({"base": values, "sft": values}, images=images)["arms"]
    measured = arm["metrics"]["closed_accuracy"]
    assert (measured["interval"] is None, measured["no_interval"], measured["value"]) == (bool(reason), reason, 0.5)


def test_what_is_the_same_everywhere_has_no_interval_of_width_0(compare: Compare) -> None:
    (arm, _) = compare({"base": [3.0] * 6, "sft": [3.0] * 6}, images=range(6), metric=WORDS)["arms"]
    measured = arm["metrics"]["answer_length"]
    assert (measured["interval"], measured["no_interval"]) == (None, SAME_EVERYWHERE)
