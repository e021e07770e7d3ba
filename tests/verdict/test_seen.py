"""Test rows that training has seen: scores and verdicts with and without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sightline.verdict.sentences import LEAKAGE, SEEN

Compare = Callable[..., dict[str, Any]]

GENERATOR = np.random.default_rng(7)
BASE = GENERATOR.integers(0, 2, 200).tolist()
SFT = np.where(GENERATOR.random(200) < 0.25, 1, BASE).tolist()
IMAGES = [question // 2 for question in range(200)]


def names(rows: Any, how: str = "image") -> dict[str, str]:
    return {f"q{row:03d}": how for row in rows}


def compared(compare: Compare, seen: dict[str, str] | None, sft: list = SFT, **more: Any) -> dict[str, Any]:
    return compare({"base": BASE, "sft": sft}, images=IMAGES, seen={"d": seen or {}}, **more)


def test_the_clean_part_is_what_it_would_be_alone(compare: Compare) -> None:
    seen = names(range(160, 200)) | names([0, 1], "row") | names([2], "near-duplicate")
    entry = compared(compare, seen)["stated"][0]
    kept = [question for question in range(160) if question > 2]
    (alone,) = compare(
        {"base": [BASE[q] for q in kept], "sft": [SFT[q] for q in kept]}, images=[IMAGES[q] for q in kept]
    )["stated"]
    assert entry["seen"]["num_seen"] == {"image": 40, "near-duplicate": 1, "row": 2}
    clean = entry["seen"]["clean"]
    assert (clean["num_questions"], clean["num_groups"]) == (157, 79)
    assert clean["difference"] == pytest.approx(alone["difference"])
    assert clean["interval"] == pytest.approx(alone["interval"])
    assert clean["p_adjusted"] == pytest.approx(alone["p_adjusted"])
    assert "Training has seen 43 of the questions or their images; on the other 157: +" in entry["sentence"]


def test_nothing_seen_leaves_everything_as_it_is(compare: Compare) -> None:
    compared_clean = compared(compare, None)
    assert compared_clean["stated"][0]["seen"] is None
    assert compared_clean["arms"][0]["metrics"]["closed_accuracy"]["clean"] is None
    assert "Training" not in compared_clean["stated"][0]["sentence"]


def test_every_arm_has_its_value_without_them(compare: Compare) -> None:
    arms = compared(compare, names(range(100)))["arms"]
    for arm, row in zip(arms, (BASE, SFT), strict=True):
        measured = arm["metrics"]["closed_accuracy"]
        assert measured["value"] == pytest.approx(np.mean(row))
        assert measured["clean"]["value"] == pytest.approx(np.mean(row[100:]))
        assert measured["clean"]["interval"][0] < measured["clean"]["value"] < measured["clean"]["interval"][1]


LEARNT = [1] * 60 + BASE[60:]
"""Better only where training has seen the question."""


def test_what_is_better_only_on_seen_questions_is_borderline(compare: Compare) -> None:
    few_changed = [*LEARNT[:-1], 1 - LEARNT[-1], *[]]
    entry = compared(compare, names(range(60)), few_changed)["stated"][0]
    assert entry["p_adjusted"] < 0.001
    assert (entry["verdict"], entry["reason"]) == ("borderline", SEEN)
    assert entry["sentence"].startswith("borderline: depends on questions that training has seen: +")
    assert "Training has seen 60 of the questions or their images; on the other 140: " in entry["sentence"]


def test_up_to_a_twentieth_seen_does_not_decide(compare: Compare) -> None:
    at_limit, above = (compared(compare, names(range(number)), SFT)["stated"][0] for number in (10, 12))
    assert at_limit["verdict"] == above["verdict"] == "improved"
    only_there = [*[1 - value for value in BASE[:10]], *BASE[10:]]
    assert compared(compare, names(range(10)), only_there)["stated"][0]["reason"] != LEAKAGE
    assert compared(compare, names(range(12)), only_there)["stated"][0]["reason"] in (LEAKAGE, SEEN)


def test_too_little_left_is_refused_without_a_number(compare: Compare) -> None:
    entry = compared(compare, names(range(192)))["stated"][0]
    assert (entry["verdict"], entry["reason"], entry["difference"]) == ("cannot decide", LEAKAGE, None)
    assert entry["sentence"] == (
        "cannot decide: leakage > 5% and clean subset too small (192 of 200 questions; of the others nothing is known: "
        "G < 5: the questions are about 4 images only)."
    )
    everything = compared(compare, names(range(200)))
    assert everything["stated"][0]["reason"] == LEAKAGE
    assert everything["arms"][0]["metrics"]["closed_accuracy"]["clean"]["value"] is None
