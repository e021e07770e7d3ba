"""People's labels against metrics: agreement, corrected scores and differences, and what may not be concluded."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from sightline.records import Score
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import METRICS
from sightline.verdict.human_labels import Answered, use_labels
from sightline.verdict.reviewers import (
    Label,
    Preference,
    Told,
    agreement_on_labels,
    agreement_on_preferences,
    says_right,
)
from verdict.conftest import MakeSamples

JUDGE = Metric(name="judge", title="Judge: correct")


def found_by_kind(labels: Sequence[Label], preferences: Sequence[Preference], answered: Answered) -> dict[str, Any]:
    """What `use_labels` finds, by kind; the counts of reviewers by themselves."""
    entries = use_labels(labels, preferences, answered)
    assert entries[0]["kind"] == "reviewers" and all(entry["title"] and entry["sentence"] for entry in entries)
    kinds = ("metric", "model", "difference", "preference")
    return entries[0] | {kind: [entry for entry in entries if entry["kind"] == kind] for kind in kinds}


def told(question: int, text: str) -> Told:
    return Told("d", "plain", f"q{question:03d}", text)


def label(question: int, text: str, value: float | None, reviewer: str = "ada", *, is_random: bool = True) -> Label:
    return Label(reviewer=reviewer, of=told(question, text), value=value, is_random=is_random)


@dataclasses.dataclass
class Study:
    """Two models' answers, what a judge says of them, and the truth."""

    answered: Answered
    truth: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]

    def labels(self, questions: Sequence[int], *, is_random: bool = True, **more: Any) -> list[Label]:
        """True labels of both models' answers to some questions."""
        return [
            label(question, f"{model}{question}", float(self.truth[model][question]), is_random=is_random, **more)
            for question in questions
            for model in self.truth
        ]


def make_study(
    make_samples: MakeSamples, truth: dict[str, Any], judged: dict[str, Any], images: Sequence[int]
) -> Study:
    samples = make_samples(images)
    names = list(samples)
    arms = {model: (model, "d", "plain") for model in truth}
    scores = {
        arms[model]: {
            "judge": [
                Score(sample_id=name, metric="judge", outcome="scored", value=float(value))
                for name, value in zip(names, values, strict=True)
            ]
        }
        for model, values in judged.items()
    }
    answered = Answered(
        texts={arms[model]: {name: f"{model}{n}" for n, name in enumerate(names)} for model in truth},
        samples={"d": samples},
        scores=scores,
        metrics=[JUDGE],
        pairs=[("sft", "base", "d", "plain")],
    )
    return Study(
        answered,
        {m: np.asarray(v, float) for m, v in truth.items()},
        {m: np.asarray(v, float) for m, v in judged.items()},
    )


def drawn(generator: np.random.Generator, num_questions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Truth and a judge that is right in 9 of 10 right answers and 8 of 10 wrong ones."""
    truth = {"base": generator.random(num_questions) < 0.5, "sft": generator.random(num_questions) < 0.6}
    judged = {m: generator.random(num_questions) < np.where(values, 0.9, 0.2) for m, values in truth.items()}
    return truth, judged


def test_corrected_scores_are_ppi_plus_plus(make_samples: MakeSamples) -> None:
    # Worked out anew for one question an image: theta = mean(y) + w (mean(f unlabelled) - mean(f labelled)), with w the
    # regression of y's influence on f's, and the variance of their residuals summed over labelled and unlabelled.
    study = make_study(make_samples, *drawn(np.random.default_rng(0), 90), images=range(90))
    found = found_by_kind(study.labels(range(30)), [], study.answered)
    for entry in found["model"]:
        y, f = study.truth[entry["model"]][:30], study.judged[entry["model"]]
        f_labelled, f_other = f[:30], f[30:]
        a, b = (y - y.mean()) / 30, (f_labelled - f_labelled.mean()) / 30
        c = (f_other - f_other.mean()) / 60
        weight = (a @ b) / (b @ b + c @ c)
        value = y.mean() + weight * (f_other.mean() - f_labelled.mean())
        error = np.sqrt(30 / 29 * (((a - weight * b) ** 2).sum() + weight**2 * (c**2).sum()))
        half = stats.t.ppf(0.975, 29) * error
        assert entry["weight"] == pytest.approx(weight, abs=1e-12)
        assert entry["value"] == pytest.approx(value, abs=1e-12)
        assert entry["interval"] == pytest.approx([value - half, value + half], abs=1e-12)
        assert entry["standard_error"] == pytest.approx(error, abs=1e-12)
        assert (entry["judged"], entry["human"]) == (pytest.approx(f.mean()), pytest.approx(y.mean()))
        assert (entry["num_labels"], entry["num_questions"], entry["headline"]) == (30, 90, False)
        assert entry["sentence"].startswith(f"people would call {100 * value:.1f}% of the answers correct (95% CI ")
        assert entry["sentence"].endswith(
            f"30 of 90 answers labelled by people); judge by itself: {100 * f.mean():.1f}%."
        )


def test_a_corrected_difference_is_that_of_the_differences(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(1), 90), images=range(90))
    (found,) = found_by_kind(study.labels(range(30)), [], study.answered)["difference"]
    y = (study.truth["sft"] - study.truth["base"])[:30]
    f = study.judged["sft"] - study.judged["base"]
    a, b, c = (y - y.mean()) / 30, (f[:30] - f[:30].mean()) / 30, (f[30:] - f[30:].mean()) / 60
    weight = (a @ b) / (b @ b + c @ c)
    assert found["value"] == pytest.approx(y.mean() + weight * (f[30:].mean() - f[:30].mean()), abs=1e-12)
    assert (found["model"], found["against"], found["judged"]) == ("sft", "base", pytest.approx(f.mean()))
    assert "points (95% CI" in found["sentence"]


def test_answers_picked_because_metrics_disagree_move_no_score(make_samples: MakeSamples) -> None:
    truth, judged = drawn(np.random.default_rng(2), 80)
    study = make_study(make_samples, truth, judged, images=range(80))
    wrong = [n for n in range(40, 80) if study.truth["sft"][n] != study.judged["sft"][n]]
    random_part = study.labels(range(40))
    found = found_by_kind(random_part, [], study.answered)
    more = found_by_kind([*random_part, *study.labels(wrong, is_random=False)], [], study.answered)
    assert more["model"] == found["model"] and more["difference"] == found["difference"]
    (before,), (after,) = found["metric"], more["metric"]
    moved = ("num_picked", "num_picked_same", "sentence")
    assert {k: v for k, v in after.items() if k not in moved} == {k: v for k, v in before.items() if k not in moved}
    assert after["num_picked"] == 2 * len(wrong) > after["num_picked_same"]
    assert (before["num_picked"], before["num_picked_same"]) == (0, 0)
    assert after["sentence"].endswith(f"people side with it on {after['num_picked_same']} of {2 * len(wrong)}.")


def test_agreement_of_a_metric_with_people(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(3), 60), images=range(60))
    (found,) = found_by_kind(study.labels(range(60)), [], study.answered)["metric"]
    people = np.concatenate([study.truth["base"], study.truth["sft"]])
    judge = np.concatenate([study.judged["base"], study.judged["sft"]])
    assert found["agreement"] == pytest.approx((people == judge).mean())
    assert found["kappa"] == pytest.approx(cohen_kappa_score(people, judge))
    assert found["sensitivity"] == pytest.approx(judge[people == 1].mean())
    assert found["specificity"] == pytest.approx(1 - judge[people == 0].mean())
    assert found["interval"][0] < found["agreement"] < found["interval"][1] and found["num_answers"] == 120


def test_several_reviewers_are_averaged_and_compared(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(4), 40), images=range(40))
    ada = study.labels(range(20))
    bo = [
        dataclasses.replace(one, reviewer="bo", value=1 - (one.value or 0) if n < 4 else one.value)
        for n, one in enumerate(ada)
    ]
    found = found_by_kind([*ada, *bo], [], study.answered)
    assert (found["num_reviewers"], found["num_labels"], found["num_answers"]) == (2, 80, 40)
    assert found["agreement"]["labels"]["kappas"] == [
        pytest.approx(cohen_kappa_score([one.value for one in ada], [one.value for one in bo]))
    ]
    # Where the two say opposite things the label is a half, which no metric can miss or meet.
    assert found["metric"][0]["num_answers"] == 36
    base = next(entry for entry in found["model"] if entry["model"] == "base")
    labels = study.truth["base"][:20].copy()
    labels[:2] = 0.5
    assert base["human"] == pytest.approx(labels.mean())
    shuffled = [*ada, *bo]
    random.Random(0).shuffle(shuffled)
    assert found_by_kind(shuffled, [], study.answered) == found
    assert "ada" not in str(found) and "bo" not in str(found).replace("both", "")


def test_an_answer_of_several_models_is_labelled_once_for_all(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(5), 20), images=range(20))
    for texts in study.answered.texts.values():
        texts.update({f"q{n:03d}": f"same{n}" for n in range(10)})  # type: ignore[attr-defined]
    found = found_by_kind([label(n, f"same{n}", float(n % 2)) for n in range(10)], [], study.answered)
    assert {entry["model"]: entry["human"] for entry in found["model"]} == {"base": 0.5, "sft": 0.5}
    assert found["difference"][0]["reason"].startswith("all labels are the same")


def test_what_was_drawn_and_not_labelled_stops_the_correction(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(6), 60), images=range(60))
    labels = study.labels(range(40))
    unsure = [dataclasses.replace(one, value=None) if one.of.sample_id < "q003" else one for one in labels]
    found = found_by_kind(unsure, [], study.answered)
    assert all(entry["value"] is not None and entry["num_labels"] == 37 for entry in found["model"])
    assert found["num_cannot_say"] == 6
    unsure = [dataclasses.replace(one, value=None) if one.of.sample_id < "q005" else one for one in labels]
    for entry in found_by_kind(unsure, [], study.answered)["model"]:
        assert entry["value"] is entry["interval"] is None and not entry["headline"]
        assert entry["reason"] == "5 of 40 drawn questions lack a label, and may be unlike the others"
    # Of a model that is compared with none, reviewers are shown nothing.
    alone = dataclasses.replace(study.answered, pairs=[("sft", "other", "d", "plain")])
    reasons = {entry["model"]: entry["reason"] for entry in found_by_kind(unsure, [], alone)["model"]}
    assert reasons["base"] == "base is not among the models reviewed" and reasons["sft"].startswith("5 of 40 drawn")
    # A model trained anew gives other answers; those it still gives are no random part of them.
    changed = dict(study.answered.texts)
    changed["sft", "d", "plain"] = {f"q{n:03d}": f"sft{n}" if n < 20 else f"new{n}" for n in range(60)}
    found = found_by_kind(labels, [], dataclasses.replace(study.answered, texts=changed))
    by_model = {entry["model"]: entry for entry in found["model"]}
    assert by_model["base"]["reason"] == "" and by_model["sft"]["reason"].startswith("20 of 40 drawn questions lack")
    assert found["num_stale"] == 20 and "20 judgements are of answers that no model gives any more" in found["sentence"]


def test_too_few_images_and_labels_without_variation_give_no_interval(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(7), 40), images=[n // 10 for n in range(40)])
    assert {entry["reason"] for entry in found_by_kind(study.labels(range(40)), [], study.answered)["model"]} == {
        "labels on 4 images, and 5 are needed"
    }
    truth = {"base": np.ones(40), "sft": np.ones(40)}
    study = make_study(make_samples, truth, drawn(np.random.default_rng(7), 40)[1], images=range(40))
    for entry in found_by_kind(study.labels(range(20)), [], study.answered)["model"]:
        assert entry["value"] is None and entry["human"] == 1.0 and "all labels are the same" in entry["sentence"]


def test_fifty_labels_make_a_headline(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(8), 80), images=range(80))
    for number, headline in ((49, False), (50, True)):
        entries = found_by_kind(study.labels(range(number)), [], study.answered)["model"]
        assert [entry["headline"] for entry in entries] == [headline, headline]


def test_only_metrics_that_tell_right_from_wrong_are_corrected() -> None:
    right = {name for name, metric in METRICS.items() if says_right(metric)}
    assert {"exact_match", "closed_accuracy", "pope_accuracy"} <= right
    assert not right & {"nll", "perplexity", "yes_ratio", "answer_length", "pope_f1", "bleu"}


def preference(question: int, value: float | None, reviewer: str = "ada", *, turned: bool = False, again: bool = False):
    sides = [told(question, f"sft{question}"), told(question, f"base{question}")]
    left, right = sides[::-1] if turned else sides
    if turned and value is not None:
        value = 1 - value
    return Preference(reviewer=reviewer, left=left, right=right, value=value, is_repeat=again)


def test_preferences_are_counted_whichever_side_they_stood_on(make_samples: MakeSamples) -> None:
    study = make_study(make_samples, *drawn(np.random.default_rng(9), 20), images=range(20))
    values = [1, 1, 1, 1, 1, 0.5, 0.5, 0, 0, 1]
    said = [preference(n, value, turned=n % 2 == 1) for n, value in enumerate(values)]
    said += [preference(12, None)]
    said += [preference(0, 1, turned=True, again=True), preference(2, 0, turned=True, again=True)]
    (found,) = found_by_kind([], said, study.answered)["preference"]
    assert (found["preferred"], found["ties"], found["not_preferred"]) == (6, 2, 2)
    assert found["win_rate"] == pytest.approx(0.7) and found["num_questions"] == 10
    error = np.std(values, ddof=1) / np.sqrt(10)
    half = stats.t.ppf(0.975, 9) * error
    assert found["interval"] == pytest.approx([0.7 - half, min(1.0, 0.7 + half)])
    assert (found["num_shown_twice"], found["num_order_decided"], found["num_equal"]) == (2, 1, 0)


def test_reviewers_agree_on_pairs_whichever_side_each_saw() -> None:
    ada = [preference(n, float(n % 2)) for n in range(6)]
    bo = [preference(n, float(n % 2), "bo", turned=True) for n in range(6)]
    assert agreement_on_preferences([*ada, *bo])["alpha"] == 1.0
    assert agreement_on_preferences(ada) == {"alpha": None, "kappas": [], "num_shared": 0}
    assert agreement_on_labels([]) == {"alpha": None, "kappas": [], "num_shared": 0}


def covered(make_samples: MakeSamples, num_runs: int) -> tuple[float, float, float]:
    """Simulate studies: how often the interval holds the truth for a score, a difference, and the judge by itself.

    60 images with three questions each, whose answers are alike within an image; 25 images' questions are labelled.
    """
    generator = np.random.default_rng(11)
    images = np.repeat(np.arange(60), 3)
    held = np.zeros(3)
    for _ in range(num_runs):
        skill = {"base": 0.5, "sft": 0.6}
        ease = generator.normal(0, 0.15, 60)[images]
        truth = {m: generator.random(180) < rate + ease for m, rate in skill.items()}
        judged = {m: generator.random(180) < np.where(values, 0.95, 0.25) for m, values in truth.items()}
        study = make_study(make_samples, truth, judged, images=images.tolist())
        looked_at = generator.permutation(180)[:75].tolist()
        found = found_by_kind(study.labels(looked_at), [], study.answered)
        (base,) = (entry for entry in found["model"] if entry["model"] == "base")
        (difference,) = found["difference"]
        held[0] += base["interval"][0] <= 0.5 <= base["interval"][1]
        held[1] += difference["interval"][0] <= 0.1 <= difference["interval"][1]
        spread = 1.96 * np.sqrt(0.25 / 180)
        held[2] += abs(base["judged"] - 0.5) <= spread
    return tuple(held / num_runs)


def test_intervals_hold_the_truth(make_samples: MakeSamples) -> None:
    score, difference, judge = covered(make_samples, 60)
    assert score > 0.85 and difference > 0.85 and judge < 0.6


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(make_samples: MakeSamples) -> None:
    score, difference, judge = covered(make_samples, 2_000)
    assert 0.93 < score < 0.97 and 0.93 < difference < 0.97
    assert judge < 0.5
