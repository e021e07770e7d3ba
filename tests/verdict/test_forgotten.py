"""What was lost on the untouched set stands beside what was gained elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.records import Sample, Score
from sightline.scoring.metrics import METRICS
from sightline.verdict.compare import Comparison, compare_models
from sightline.verdict.forgotten import what_was_lost

MakeSamples = Callable[..., dict[str, Sample]]
MakeScores = Callable[..., list[Score]]


def compared(make_samples: MakeSamples, make_scores: MakeScores, **tuned: list[int]) -> dict[str, Any]:
    """Base answers every other question right; the tuned model as given, set by set."""
    sets = {name: make_samples(range(len(values))) for name, values in tuned.items()}
    scores = {}
    for name, values in tuned.items():
        for model, row in (("base", [1, 0] * (len(values) // 2)), ("sft", values)):
            scores[model, name, "plain"] = {"exact_match": make_scores(row, "exact_match")}
    metrics = [METRICS["exact_match"]]
    return compare_models(
        study="s", samples=sets, scores=scores, metrics=metrics, stated=[Comparison(model="sft", against="base")]
    )


def test_lost_and_won_questions_are_counted_beside_the_gain(make_samples: MakeSamples, make_scores: MakeScores) -> None:
    generator = np.random.default_rng(5)
    gained = [int(right or generator.random() < 0.6) for right in [1, 0] * 60]
    lost = [int(right and generator.random() < 0.5) for right in [1, 0] * 60]
    lost[1] = 1
    found = compared(make_samples, make_scores, domain=gained, other=lost)
    entries = [*found["stated"], *found["exploratory"]]
    [row] = what_was_lost(entries, "other", metrics={"exact_match"})
    num_lost = 60 - sum(lost[::2])
    assert (row["forgotten"], row["learnt"], row["verdict"]) == (num_lost, 1, "regressed")
    assert row["elsewhere"] == {"domain": (sum(gained) - 60) / 120}
    assert row["sentence"].startswith(
        f"Of 120 questions, {num_lost} that base answers right were lost and 1 that it answers wrong were won: regre"
    )
    assert row["sentence"].endswith(
        f"By the same metric elsewhere: +{100 * row['elsewhere']['domain']:.1f} points on domain."
    )


def test_without_an_untouched_set_nothing_is_said(make_samples: MakeSamples, make_scores: MakeScores) -> None:
    found = compared(make_samples, make_scores, domain=[1, 0] * 20)
    assert what_was_lost(found["stated"], "", metrics={"exact_match"}) == []
    assert what_was_lost(found["stated"], "domain", metrics={"nll"}) == []


def test_a_stated_question_is_not_asked_where_its_metric_is_not_about_the_set(
    make_samples: MakeSamples, make_scores: MakeScores
) -> None:
    sets = {name: make_samples(range(40)) for name in ("about", "other")}
    nothing = ["not_applicable"] * 40
    scores = {
        (model, name, "plain"): {"closed_accuracy": make_scores([1, 0] * 20 if name == "about" else nothing)}
        for model in ("base", "sft")
        for name in sets
    }
    stated = [Comparison(model="sft", against="base")]
    found = compare_models(study="s", samples=sets, scores=scores, metrics=[METRICS["closed_accuracy"]], stated=stated)
    assert [entry["data"] for entry in found["stated"]] == ["about"]
    del scores["base", "about", "plain"], scores["sft", "about", "plain"]
    alone = compare_models(study="s", samples=sets, scores=scores, metrics=[METRICS["closed_accuracy"]], stated=stated)
    assert [entry["verdict"] for entry in alone["stated"]] == ["cannot decide"], "refused by name, not forgotten"
