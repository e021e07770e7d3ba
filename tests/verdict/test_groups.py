"""Questions about several images each, some of which they share: what counts as independent, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from sightline.data.groups import picture_groups
from sightline.data.splits import split_samples
from sightline.records import Sample, Score
from sightline.scoring.metrics import METRICS
from sightline.verdict import statistics
from sightline.verdict.columns import group_names, number_groups
from sightline.verdict.compare import Comparison, compare_models

MakeSamples = Callable[[Sequence[int | Sequence[int]]], dict[str, Sample]]
MakeScores = Callable[..., list[Score]]

CHAINS, LINKS = 8, 5
WINDOWS = [(10 * chain + link, 10 * chain + link + 1) for chain in range(CHAINS) for link in range(LINKS)]
"""Two images a question, the second being the first of the next: no two sets are equal, and eight chains share none."""
CHAIN_OF = [chain for chain in range(CHAINS) for _ in range(LINKS)]

GENERATOR = np.random.default_rng(5)
BASE = GENERATOR.integers(0, 2, CHAINS * LINKS).tolist()
SFT = GENERATOR.integers(0, 2, CHAINS * LINKS).tolist()


@pytest.fixture
def compare(make_samples: MakeSamples, make_scores: MakeScores) -> Callable[..., dict[str, Any]]:
    """A function that compares base and sft from their values and the images of each question."""

    def run(images: Sequence, base: Sequence, sft: Sequence, metric: str = "closed_accuracy") -> dict[str, Any]:
        return compare_models(
            study="test",
            samples={"d": make_samples(images)},
            scores={
                (name, "d", "plain"): {metric: make_scores(row, metric)} for name, row in (("base", base), ("sft", sft))
            },
            metrics=[METRICS[metric]],
            stated=[Comparison(model="sft", against="base")],
        )

    return run


def test_questions_that_share_an_image_in_part_are_one_cluster(compare: Callable[..., dict[str, Any]]) -> None:
    compared = compare(WINDOWS, BASE, SFT)
    (entry,) = compared["stated"]
    difference_N = np.subtract(SFT, BASE, dtype=float)
    by_hand = statistics.clustered_mean(difference_N, np.array(CHAIN_OF))
    assert entry["standard_error"] == pytest.approx(by_hand.standard_error)
    assert (entry["degrees_of_freedom"], entry["p_check_method"]) == (CHAINS - 1, "sign-flip")
    assert (entry["num_questions"], entry["num_images"], entry["num_groups"]) == (40, 48, 8)
    # As if each chain were one image; only the counts of images differ.
    (alone,) = compare(CHAIN_OF, BASE, SFT)["stated"]
    assert alone["standard_error"] == entry["standard_error"] and alone["num_images"] == 8
    arm, arm_alone = compared["arms"][0], compare(CHAIN_OF, BASE, SFT)["arms"][0]
    assert arm["metrics"] == arm_alone["metrics"]
    assert (arm["num_images"], arm["num_groups"], arm["max_questions_per_image"]) == (48, 8, 2)


def test_ratios_draw_whole_groups(compare: Callable[..., dict[str, Any]]) -> None:
    parts = [[{("tp" if right else "fn"): 1.0, "fp": 1.0} for right in row] for row in (BASE, SFT)]
    (entry,) = compare(WINDOWS, *parts, metric="closed_f1")["stated"]
    (alone,) = compare(CHAIN_OF, *parts, metric="closed_f1")["stated"]
    for key in ("difference", "interval", "p", "p_check"):
        assert entry[key] == alone[key]


def test_one_chain_through_everything_is_too_little(compare: Callable[..., dict[str, Any]]) -> None:
    (entry,) = compare([(n, n + 1) for n in range(20)], [0, 1] * 10, [1, 1] * 10)["stated"]
    assert entry["reason"] == "G < 5"
    assert entry["detail"] == "the questions are about 21 images (1 independent group) only"


def test_a_question_that_the_metric_leaves_out_links_all_the_same(compare: Callable[..., dict[str, Any]]) -> None:
    images = [*range(20), (0, 1)]
    values = [[0, 1] * 10 + ["not_applicable"], [1, 1, 1, 0] * 5 + ["not_applicable"]]
    (entry,) = compare(images, *values)["stated"]
    assert (entry["num_questions"], entry["num_images"], entry["num_groups"]) == (20, 20, 19)


def test_statistics_and_splits_have_the_same_groups(make_samples: MakeSamples) -> None:
    samples = make_samples([*WINDOWS, (), (), (3, 42)])
    groups_N = number_groups(group_names(samples), list(samples)[::-1])[::-1]
    for part in split_samples(samples.values(), {"a": 0.5, "b": 0.5}).values():
        inside = {groups_N[list(samples).index(sample.id)] for sample in part}
        outside = {groups_N[index] for index, name in enumerate(samples) if samples[name] not in part}
        assert not inside & outside
    assert len(set(groups_N.tolist())) == CHAINS - 1 + 2  # the last question joins chains 0 and 4
    assert groups_N[0] == groups_N[-1] == groups_N[4 * LINKS]


def test_names_do_not_depend_on_the_order(make_samples: MakeSamples) -> None:
    samples = list(make_samples([(9, 4), (4, 7), (7,), (2,), (8, 2)]).values())
    names = picture_groups(samples)
    assert names == [f"{image:064d}" for image in (4, 4, 4, 2, 2)]
    assert picture_groups(samples[::-1]) == names[::-1]


def test_what_nobody_could_read_is_counted(compare: Callable[..., dict[str, Any]]) -> None:
    compared = compare(CHAIN_OF, ["unparsed"] * 40, ["unparsed"] * 40)
    (entry,) = compared["stated"]
    assert (entry["reason"], entry["num_questions"], entry["num_images"]) == ("nothing scored", 40, 8)
    assert entry["unparsed"] == {"model": 40, "against": 40}
    assert (entry["by_rule"]["left_out"], entry["by_rule"]["num_left"], entry["by_rule"]["bounds"]) == (None, 0, None)
    assert "none of the answers to 40 questions could be read, on either side" in entry["sentence"]
    assert compared["arms"][0]["metrics"]["closed_accuracy"]["value"] == 0.0


def test_what_was_never_matched_has_no_counts(compare: Callable[..., dict[str, Any]]) -> None:
    (entry,) = compare(CHAIN_OF, [0, 1] * 20, [0, 1] * 19)["stated"]
    assert entry["reason"] == "unmatched samples"
    assert {entry[key] for key in ("num_questions", "num_images", "num_groups", "fixed", "broke")} == {None}
