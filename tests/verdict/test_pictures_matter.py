"""Whether a model looks, and whether a set must be looked at: what is said of scores made up for each case."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sightline.records import Message, Picture, Sample, Score
from sightline.scoring.metrics import metric_named
from sightline.verdict.pictures_matter import (
    HARDLY,
    LITTLE,
    MATTERS,
    UNKNOWN,
    WITHOUT,
    judge_pictures,
    measure_pictures,
)
from sightline.verdict.statistics import clustered_mean, t_interval

LOSSES = {"own": 0.5, "blank": 0.9, "other": 0.9}
METRICS = [metric_named("exact_match"), metric_named("nll")]


def questions(num_images: int, each: int = 4) -> dict[str, Sample]:
    """Yes/no questions, half of them yes in every image."""
    samples = {}
    for image in range(num_images):
        picture = Picture(name=f"{image}.png", sha256=f"{image:04d}", width=4, height=4)
        for number in range(each):
            name = f"{image}-{number}"
            messages = (Message(role="user", content=(0, "Q")),)
            answer = "yes" if number % 2 else "no"
            samples[name] = Sample(id=name, pictures=(picture,), messages=messages, answer=answer)
    return samples


def scored(metric: str, values: Mapping[str, float]) -> list[Score]:
    parts = {name: {"nll": value, "tokens": 1.0} if metric == "nll" else {} for name, value in values.items()}
    return [
        Score(sample_id=name, metric=metric, outcome="scored", value=value, parts=parts[name])
        for name, value in values.items()
    ]


def right(samples: Mapping[str, Sample], share: float, seed: str) -> dict[str, float]:
    draw = random.Random(seed)
    return {name: float(draw.random() < share) for name in samples}


def flat(samples: Mapping[str, Sample], loss: float) -> dict[str, float]:
    return {name: loss + 0.01 * (number % 7) for number, name in enumerate(samples)}


def measured(
    samples: Mapping[str, Sample],
    own: Mapping[str, float],
    blank: Mapping[str, float],
    other: Mapping[str, float],
    *,
    losses: tuple[float, float, float] = (0.5, 0.5, 0.5),
    model: str = "sft",
) -> dict[str, Any]:
    pictures = zip(("own", "blank", "other"), (own, blank, other), losses, strict=True)
    scores = {
        picture: {"exact_match": scored("exact_match", values), "nll": scored("nll", flat(samples, loss))}
        for picture, values, loss in pictures
    }
    return measure_pictures(samples, METRICS, scores, model=model, data="d.test", template="plain")


def judged(*entries: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    result = judge_pictures(entries)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    (place,) = result["sets"]
    return result["models"], place["sentence"]


def test_a_model_that_looks_is_said_to():
    samples = questions(60)
    own, blank, other = (right(samples, share, str(share)) for share in (0.9, 0.5, 0.49))
    (entry,), about = judged(measured(samples, own, blank, other, losses=(0.2, 0.9, 1.1)))
    assert entry["verdict"] == MATTERS
    assert (
        entry["sentence"].startswith("the picture matters: Exact match 9")
        and "240 questions on 60 images" in entry["sentence"]
    )
    assert entry["beside"].startswith("Reference answer loss: 0.2")
    assert about.startswith("d.test has to be looked at: sft falls from ")


def test_the_interval_is_the_clustered_one():
    samples = questions(40)
    own, blank = right(samples, 0.8, "own"), right(samples, 0.5, "blank")
    (entry,), _ = judged(measured(samples, own, blank, blank))
    differences = np.array([own[name] - blank[name] for name in sorted(samples)])
    clusters = np.array([int(name.split("-")[0]) for name in sorted(samples)])
    _, clusters = np.unique(clusters, return_inverse=True)
    low, high = t_interval(clustered_mean(differences, clusters))
    assert entry["metrics"]["exact_match"]["gains"]["blank"]["interval"] == pytest.approx([low, high])


def test_a_set_that_gives_its_answers_away_is_said_to():
    samples = questions(150)
    own = right(samples, 0.9, "own")
    blank = dict(own) | dict.fromkeys(list(own)[:3], 0.0)  # three of 600 answers need the picture
    (entry,), about = judged(measured(samples, own, blank, blank))
    assert (
        entry["verdict"] == WITHOUT
        and entry["metrics"]["exact_match"]["gains"]["blank"]["interval"][1] < LITTLE["rate"]
    )
    assert about.startswith("d.test can be answered without looking: sft reaches ")
    assert "where always “no” would reach 50.0%. A score on it says little about seeing." in about


def test_answers_that_are_all_right_without_looking_leave_nothing_to_estimate():
    samples = questions(30)
    right_throughout = dict.fromkeys(samples, 1.0)
    (entry,), about = judged(measured(samples, right_throughout, right_throughout, right_throughout))
    assert entry["verdict"] == WITHOUT
    assert about.startswith(
        "d.test can be answered without looking: sft reaches 100.0%, and 100.0% with blank pictures"
    )


def test_a_model_that_always_gives_the_very_same_answers_does_not_look():
    samples = questions(30)
    own = {name: float(sample.answer == "no") for name, sample in samples.items()}
    (entry,), about = judged(measured(samples, own, own, own))
    assert entry["verdict"] == WITHOUT and "no difference on any image" in entry["sentence"]
    assert about.startswith("No model here is seen to look at the pictures of d.test")
    assert "Whether the questions need them is not known." in about


def test_a_loss_that_sees_what_no_answer_does_is_reported():
    samples = questions(80)
    own = right(samples, 0.7, "own")
    draw = random.Random(1)
    losses = {p: {name: loss + draw.gauss(0, 0.1) for name in samples} for p, loss in LOSSES.items()}
    scores = {p: {"exact_match": scored("exact_match", own), "nll": scored("nll", losses[p])} for p in LOSSES}
    (entry,), _ = judged(measure_pictures(samples, METRICS, scores, model="sft", data="d.test", template="plain"))
    assert entry["verdict"] == WITHOUT
    assert "So it does see something: another's picture costs 0.3" in entry["beside"]
    assert entry["beside"].endswith("though that changes too few of its answers.")


def test_a_small_set_is_said_to_tell_nothing():
    samples = questions(8)
    own, blank = right(samples, 0.7, "a"), right(samples, 0.5, "b")
    (entry,), about = judged(measured(samples, own, blank, blank))
    assert entry["verdict"] == UNKNOWN and "This set could only have shown a cost of " in entry["sentence"]
    assert about.startswith("Nothing is known of whether d.test has to be looked at")


def test_fewer_than_five_images_have_no_interval():
    samples = questions(3)
    own, blank = right(samples, 0.9, "a"), right(samples, 0.1, "b")
    (entry,), _ = judged(measured(samples, own, blank, blank))
    assert (
        entry["verdict"] == UNKNOWN
        and "No interval: G < 5: the questions are about 3 images only." in entry["sentence"]
    )


def test_a_stand_in_that_does_as_well_is_enough():
    # A blank picture confuses the model, but whose picture it is shown changes nothing.
    samples = questions(150)
    own = right(samples, 0.8, "own")
    other = dict(own) | dict.fromkeys(list(own)[:4], 0.0)
    (entry,), _ = judged(measured(samples, own, right(samples, 0.3, "blank"), other))
    assert entry["verdict"] == WITHOUT
    assert entry["metrics"]["exact_match"]["gains"]["blank"]["interval"][0] > 0.3


def test_a_small_but_certain_gain_hardly_matters():
    samples = questions(400)
    own = right(samples, 0.7, "own")
    wrong = [name for name, value in own.items() if value][:40]
    (entry,), _ = judged(measured(samples, own, own | dict.fromkeys(wrong, 0.0), own | dict.fromkeys(wrong, 0.0)))
    assert entry["verdict"] == HARDLY


def test_many_verdicts_are_corrected_together():
    samples = questions(30)
    own, blank = right(samples, 0.72, "c"), right(samples, 0.56, "d")
    alone, _ = judged(measured(samples, own, blank, blank))
    together, _ = judged(*(measured(samples, own, blank, blank, model=f"m{n}") for n in range(40)))
    assert alone[0]["p_adjusted"] < 0.05 <= together[0]["p_adjusted"]
    assert (alone[0]["verdict"], together[0]["verdict"]) == (MATTERS, UNKNOWN)
    assert "Corrected for 40 such verdicts, p " in together[0]["sentence"]


def test_most_of_a_score_may_come_without_looking_though_the_picture_matters():
    samples = questions(150)
    own, blank = right(samples, 0.97, "own"), right(samples, 0.85, "blank")
    _, about = judged(measured(samples, own, blank, blank))
    assert "has to be looked at" in about and "of what it gains over that, it gains without looking" in about


def test_the_model_that_does_best_speaks_for_the_set():
    samples = questions(60)
    own, blank = right(samples, 0.9, "own"), right(samples, 0.5, "blank")
    poor = {name: float(sample.answer == "no") for name, sample in samples.items()}
    entries, about = judged(measured(samples, poor, poor, poor, model="base"), measured(samples, own, blank, blank))
    assert [entry["verdict"] for entry in entries] == [WITHOUT, MATTERS]
    assert "sft, the best here, falls from" in about


def test_where_the_best_is_unclear_one_that_is_seen_to_look_speaks():
    samples = questions(60)
    blank = right(samples, 0.5, "blank")
    unclear = dict.fromkeys(samples, 1.0)
    less = {name: 0.0 if name in list(samples)[:12] else 1.0 for name in samples}
    best = measured(samples, unclear, unclear | dict.fromkeys(list(samples)[:40:3], 0.0), less)
    base = measured(samples, right(samples, 0.9, "own"), blank, blank, model="base")
    entries, about = judged(base, best)
    assert [entry["verdict"] for entry in entries] == [MATTERS, UNKNOWN]
    assert about.startswith("d.test has to be looked at: base falls from")


def test_rows_that_could_not_be_asked_again_are_counted():
    samples = questions(20)
    own, blank = right(samples, 0.9, "own"), right(samples, 0.5, "blank")
    fewer = {name: value for name, value in blank.items() if not name.startswith("3-")}
    entry = measured(samples, own, blank, fewer)
    assert entry["num_left_out"] == 4 and entry["metrics"]["exact_match"]["num_questions"] == 76
