from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from sightline.errors import DataError, StudyError
from sightline.records import Answer, Message, Picture, Sample, Score
from sightline.scoring.metrics import METRICS, Metric, score_answers
from sightline.verdict import statistics
from sightline.verdict.compare import Comparison, compare_models
from sightline.verdict.pairs import Refusal, pair_scores
from sightline.verdict.sentences import ONE_RUN

ACCURACY = METRICS["closed_accuracy"]
SFT = Comparison(model="sft", against="base")
MakeSamples = Callable[[Sequence[int]], dict[str, Sample]]
MakeScores = Callable[..., list[Score]]


def flips(*, fixed: int, broke: int, both: int = 0, neither: int = 0) -> dict[str, list[int]]:
    """Scores of base and sft with as many questions of each kind."""
    return {
        "base": [0] * fixed + [1] * broke + [1] * both + [0] * neither,
        "sft": [1] * fixed + [0] * broke + [1] * both + [0] * neither,
    }


def test_one_question_an_image_is_mcnemar_beside_the_paired_t(compare: Callable[..., dict[str, Any]]) -> None:
    values = flips(fixed=61, broke=33, both=200, neither=100)
    (entry,) = compare(values, images=range(394))["stated"]
    difference_N = np.array(values["sft"]) - np.array(values["base"])
    estimate = statistics.clustered_mean(difference_N.astype(float), np.arange(394))
    assert entry["difference"] == pytest.approx(28 / 394)
    assert entry["interval"] == pytest.approx(statistics.t_interval(estimate))
    assert entry["p"] == entry["p_adjusted"] == pytest.approx(statistics.t_p(estimate))
    assert (entry["p_check_method"], entry["p_check"]) == ("McNemar", pytest.approx(statistics.mcnemar(61, 33).exact))
    assert (entry["fixed"], entry["broke"]) == (61, 33)
    assert (entry["fixed_ids"][0], entry["broke_ids"][0]) == ("q000", "q061")
    assert entry["detectable"] == pytest.approx(statistics.detectable_difference(estimate.standard_error, 393))
    assert (entry["verdict"], entry["note"]) == ("improved", ONE_RUN)


def test_several_questions_an_image_are_clustered(compare: Callable[..., dict[str, Any]]) -> None:
    values = flips(fixed=60, broke=20, both=40)
    images = [question // 2 for question in range(120)]
    (entry,) = compare(values, images=images)["stated"]
    (apart,) = compare(values, images=range(120))["stated"]
    assert (entry["num_questions"], entry["num_images"], entry["degrees_of_freedom"]) == (120, 60, 59)
    assert entry["p_check_method"] == "sign-flip"
    assert entry["difference"] == apart["difference"]
    assert entry["standard_error"] == pytest.approx(apart["standard_error"] * np.sqrt(2), rel=0.01)


def test_exchanging_the_models_mirrors_everything(compare: Callable[..., dict[str, Any]]) -> None:
    values = flips(fixed=40, broke=12, both=40, neither=30)
    images = [question % 45 for question in range(122)]
    (one,) = compare(values, images=images)["stated"]
    (other,) = compare({"base": values["sft"], "sft": values["base"]}, images=images)["stated"]
    assert (one["verdict"], other["verdict"]) == ("improved", "regressed")
    assert other["difference"] == -one["difference"]
    assert other["interval"] == pytest.approx([-one["interval"][1], -one["interval"][0]])
    assert (other["p"], other["p_check"]) == pytest.approx((one["p"], one["p_check"]))
    assert (other["fixed_ids"], other["broke_ids"]) == (one["broke_ids"], one["fixed_ids"])


def invented_study(seed: int, num_questions: int, num_images: int, models: Sequence[str]) -> dict[str, Any]:
    """A study of yes/no questions with all closed metrics and a loss; base says neither now and then."""
    generator = np.random.default_rng(seed)
    metrics = [METRICS[name] for name in ("closed_accuracy", "closed_precision", "closed_recall", "closed_f1")]
    samples = {}
    for index in range(num_questions):
        picture = Picture(name="", sha256=f"{generator.integers(num_images):064d}", width=8, height=8)
        message = Message(role="user", content=(0, "Is it?"))
        reference = str(generator.choice(["yes", "no"]))
        samples[f"q{index}"] = Sample(id=f"q{index}", pictures=(picture,), messages=(message,), answer=reference)
    scores = {}
    for rank, model in enumerate(models):
        texts = np.where(generator.random(num_questions) < 0.6 + 0.05 * rank, "as it is", "other")
        if rank == 0:
            texts[: num_questions // 50] = "perhaps"
        answers = [
            Answer(
                sample_id=name,
                model=model,
                data="d",
                text={"as it is": sample.answer, "other": "yes" if sample.answer == "no" else "no"}.get(text, text),
                finish_reason="stop",
                num_tokens=1,
            )
            for (name, sample), text in zip(samples.items(), texts.tolist(), strict=True)
        ]
        by_metric = {metric.name: score_answers(metric, samples, answers) for metric in metrics}
        by_metric["nll"] = [
            Score(
                sample_id=name,
                metric="nll",
                outcome="scored",
                parts={"nll": float(loss), "tokens": 2.0},
            )
            for name, loss in zip(samples, generator.gamma(2.0, 0.5 - 0.05 * rank, size=num_questions), strict=True)
        ]
        scores[model, "d", "plain"] = by_metric
    return {"study": "invented", "samples": {"d": samples}, "scores": scores, "metrics": [*metrics, METRICS["nll"]]}


def test_the_same_scores_in_any_order_give_the_same_bytes() -> None:
    study = invented_study(1, 200, 60, ["base", "sft@0", "sft@1", "other"])
    stated = [SFT, Comparison(model="other", against="base", by="nll")]
    first = json.dumps(compare_models(**study, stated=stated), allow_nan=False)
    generator = np.random.default_rng(0)

    def shuffled(mapping: Mapping) -> dict:
        return {key: mapping[key] for key in [list(mapping)[i] for i in generator.permutation(len(mapping))]}

    study["samples"] = {"d": shuffled(study["samples"]["d"])}
    study["scores"] = {
        key: {name: [rows[i] for i in generator.permutation(len(rows))] for name, rows in shuffled(by_metric).items()}
        for key, by_metric in shuffled(study["scores"]).items()
    }
    assert json.dumps(compare_models(**study, stated=stated), allow_nan=False) == first
    assert json.dumps(compare_models(**study, stated=stated, seed=1), allow_nan=False) != first


def test_a_recipe_averages_each_question_over_its_training_runs(compare: Callable[..., dict[str, Any]]) -> None:
    generator = np.random.default_rng(4)
    base = generator.integers(0, 2, size=80).tolist()
    runs = {f"sft@{seed}": np.where(generator.random(80) < 0.3 + 0.1 * seed, 1, base).tolist() for seed in range(3)}
    images = [question % 31 for question in range(80)]
    compared = compare({"base": base, **runs}, images=images)
    (entry,) = compared["stated"]
    differences_SN = np.array([np.array(row) - np.array(base) for row in runs.values()], dtype=float)
    questions = statistics.clustered_mean(differences_SN.mean(axis=0), np.array(images))
    variance = questions.standard_error**2 + np.var(differences_SN.mean(axis=1), ddof=1) / 3
    assert entry["difference"] == pytest.approx(differences_SN.mean())
    assert entry["standard_error"] == pytest.approx(np.sqrt(variance))
    assert entry["seeds"] == [0, 1, 2]
    assert entry["note"] == "" and compared["notes"] == []
    assert entry["degrees_of_freedom"] < 30
    assert [checkpoint["model"] for checkpoint in entry["checkpoints"]] == ["sft@0", "sft@1", "sft@2"]
    for checkpoint, difference_N in zip(entry["checkpoints"], differences_SN, strict=True):
        alone = statistics.clustered_mean(difference_N, np.array(images))
        assert checkpoint["difference"] == pytest.approx(difference_N.mean())
        assert checkpoint["standard_error"] == pytest.approx(alone.standard_error)
        assert checkpoint["note"] == ONE_RUN


def test_equal_seeds_are_paired_and_unequal_ones_refused(compare: Callable[..., dict[str, Any]]) -> None:
    generator = np.random.default_rng(5)
    rows = {f"{name}@{seed}": generator.integers(0, 2, size=40).tolist() for name in ("sft", "dpo") for seed in (0, 3)}
    stated = [Comparison(model="dpo", against="sft")]
    (entry,) = compare(rows, images=range(40), stated=stated)["stated"]
    gaps = [np.mean(rows[f"dpo@{seed}"]) - np.mean(rows[f"sft@{seed}"]) for seed in (0, 3)]
    assert [(each["model"], each["against"]) for each in entry["checkpoints"]] == [
        ("dpo@0", "sft@0"),
        ("dpo@3", "sft@3"),
    ]
    assert [each["difference"] for each in entry["checkpoints"]] == pytest.approx(gaps)
    del rows["sft@3"]
    (entry,) = compare(rows, images=range(40), stated=stated)["stated"]
    assert (entry["verdict"], entry["reason"]) == ("cannot decide", "unmatched samples")
    assert entry["detail"] == "dpo has seeds 0, 3; sft has seeds 0"


def test_families_are_corrected_each_by_itself(compare: Callable[..., dict[str, Any]]) -> None:
    generator = np.random.default_rng(6)
    base = generator.integers(0, 2, size=150)
    models = {name: np.where(generator.random(150) < 0.12, 1, base).tolist() for name in "abcd"}
    stated = [Comparison(model="a", against="base"), Comparison(model="b", against="base")]
    compared = compare({"base": base.tolist(), **models}, images=range(150), stated=stated)
    for family, names in ((compared["stated"], "ab"), (compared["exploratory"], "cd")):
        assert [entry["model"] for entry in family] == list(names)
        p = [entry["p"] for entry in family]
        assert [entry["p_adjusted"] for entry in family] == pytest.approx(statistics.holm(p))
        assert max(entry["p_adjusted"] for entry in family) > min(p)


def test_invalid_answers_that_decide_make_the_verdict_borderline(compare: Callable[..., dict[str, Any]]) -> None:
    # Read answers are equally often right; sft only says yes or no more often.
    base = [1, 0] * 80 + ["unparsed"] * 40
    sft = [1, 0] * 70 + [0, 1] * 10 + [1] * 40
    compared = compare({"base": base, "sft": sft}, images=range(200))
    (entry,) = compared["stated"]
    assert (entry["verdict"], entry["reason"]) == ("borderline", "depends on how invalid answers are counted")
    assert entry["difference"] == pytest.approx(0.2)
    assert entry["by_rule"]["left_out"]["difference"] == pytest.approx(0.0)
    assert entry["by_rule"]["left_out"]["num_questions"] == 160
    assert entry["by_rule"]["bounds"] == pytest.approx([0.0, 0.2])
    assert entry["unparsed"] == {"model": 0, "against": 40}
    assert entry["fixed"] == 50
    (arm, _) = compared["arms"]
    assert (arm["metrics"]["closed_accuracy"]["value"], arm["metrics"]["closed_accuracy"]["num_unparsed"]) == (0.4, 40)


def test_others_invalid_answers_do_not_decide(compare: Callable[..., dict[str, Any]]) -> None:
    # Leaving out what c did not answer makes its p large, and a's then the smallest of two: .03 becomes .06.
    values = flips(fixed=14, broke=4, both=120, neither=62)
    muted = ["unparsed" if n % 2 else value for n, value in enumerate(values["base"])]
    stated = [SFT, Comparison(model="c", against="base")]
    first, other = compare({**values, "c": muted}, images=range(200), stated=stated)["stated"]
    assert other["reason"] == "depends on how invalid answers are counted"
    assert (first["p_check_adjusted"], first["by_rule"]) == (pytest.approx(0.0309, abs=1e-4), None)
    assert first["verdict"] == "improved"


def test_invalid_answers_that_do_not_decide_leave_the_verdict(compare: Callable[..., dict[str, Any]]) -> None:
    values = flips(fixed=70, broke=10, both=60, neither=56)
    values = {model: [*row, "unparsed", "unparsed", *[0] * 2] for model, row in values.items()}
    (entry,) = compare(values, images=range(200))["stated"]
    assert entry["verdict"] == "improved"
    assert entry["unparsed"] == {"model": 2, "against": 2}
    assert entry["by_rule"]["bounds"] == pytest.approx([0.29, 0.31])


def test_a_direction_that_rests_on_the_rule_is_borderline(compare: Callable[..., dict[str, Any]]) -> None:
    # Counted wrong or left out, sft is ahead; had base's unread answers been right, it would be behind.
    read = flips(fixed=40, broke=5, both=50, neither=45)
    values = {"base": [*read["base"], *["unparsed"] * 60], "sft": [*read["sft"], *[0] * 60]}
    (entry,) = compare(values, images=range(200))["stated"]
    assert entry["by_rule"]["bounds"] == pytest.approx([-0.125, 0.175])
    assert entry["difference"] == pytest.approx(0.175) and entry["by_rule"]["left_out"]["interval"][0] > 0
    assert (entry["verdict"], entry["reason"]) == ("borderline", "depends on how invalid answers are counted")


def test_few_images_need_both_tests(compare: Callable[..., dict[str, Any]]) -> None:
    # Five images: 2 / 32 is the least a sign flip can say, whatever the t-test says.
    values = {"base": [0] * 50, "sft": ([1] * 9 + [0]) * 4 + [1] * 10}
    (entry,) = compare(values, images=[question // 10 for question in range(50)])["stated"]
    assert entry["p_adjusted"] < 0.001 and entry["p_check_adjusted"] == 0.0625
    assert (entry["verdict"], entry["reason"]) == ("borderline", "the two tests disagree")


def refused(entry: Mapping[str, Any], reason: str) -> bool:
    numbers = ("difference", "interval", "standard_error", "p", "p_adjusted", "p_check", "detectable")
    assert entry["sentence"].startswith(f"cannot decide: {reason}")
    return (
        entry["verdict"] == "cannot decide" and entry["reason"] == reason and all(entry[key] is None for key in numbers)
    )


@pytest.mark.parametrize(
    ("base", "sft", "images", "reason"),
    [
        ([0, 1] * 10, [0, 1] * 9, range(20), "unmatched samples"),
        ([0, 1] * 10, [0, 1] * 9 + [0, "not_applicable"], range(20), "unmatched samples"),
        ([0, 1] * 10, [0, 1] * 9 + [0, "failed"], range(20), "more than 1% of questions have no score"),
        ([0, 1] * 10, [1, 1] * 10, [n % 4 for n in range(20)], "G < 5"),
        ([0], [1], [0], "G < 5"),
        ([0, 1] * 10, [1, 0] * 10, [0] * 20, "G < 5"),
        ([0, 1] * 10, [0, 1] * 10, range(20), "no variation"),
        ([0] * 20, [1] * 20, range(20), "no interval"),
        (["unparsed"] * 20, ["unparsed"] * 20, range(20), "nothing scored"),
        (["not_applicable"] * 20, ["not_applicable"] * 20, range(20), "nothing scored"),
        ([], [], range(20), "nothing scored"),
    ],
)
def test_refusals_have_a_reason_and_no_number(
    compare: Callable[..., dict[str, Any]], base: list, sft: list, images: Sequence[int], reason: str
) -> None:
    compared = compare({"base": base, "sft": sft}, images=images)
    (entry,) = compared["stated"]
    assert refused(entry, reason)
    json.dumps(compared, allow_nan=False)


def test_what_does_not_vary_says_whether_it_differs(compare: Callable[..., dict[str, Any]]) -> None:
    def sentence(base: list, sft: list) -> str:
        return compare({"base": base, "sft": sft}, images=range(20))["stated"][0]["sentence"]

    alike = sentence([0, 1] * 10, [0, 1] * 10)
    assert alike == "cannot decide: no variation (all 20 questions count the same for both models)."
    assert sentence([0] * 20, [1] * 20) == (
        "cannot decide: no interval (+100.0 points, and it is the same on every image, so its uncertainty cannot be "
        "estimated)."
    )


def test_few_questions_left_without_unread_answers_are_counted(compare: Callable[..., dict[str, Any]]) -> None:
    sft = [1] * 4 + ["unparsed"] * 12
    (entry,) = compare({"base": [1] * 16, "sft": sft}, images=range(16))["stated"]
    assert entry["verdict"] == "borderline" and "without them 4 questions are left" in entry["sentence"]


def test_a_model_that_was_not_asked_is_named(compare: Callable[..., dict[str, Any]]) -> None:
    stated = [Comparison(model="dpo", against="base"), Comparison(model="a", against="b", data="elsewhere")]
    first, second = compare(flips(fixed=9, broke=1), images=range(10), stated=stated)["stated"]
    assert refused(first, "nothing scored") and first["detail"] == "no answers on d by dpo"
    assert refused(second, "nothing scored") and second["detail"] == "no answers on elsewhere by a and b"


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (["no answer: timeout", "unanswered: gpt: timeout"], "no answer came on 2"),
        (["failed: timeout", "unreadable: no JSON"], "judge j could not be read on 1, judge j did not reply on 1"),
        (["ZeroDivisionError: by zero", "no answer: 500"], "j failed on 1, no answer came on 1"),
    ],
)
def test_a_refusal_says_whether_answers_replies_or_scores_are_missing(
    make_samples: MakeSamples, reasons: list[str], told: str
) -> None:
    metric, samples = Metric(name="j", title="J"), make_samples(range(20))
    right = {name: Score(sample_id=name, metric="j", outcome="scored", value=1.0) for name in samples}
    lost = {
        name: Score(sample_id=name, metric="j", outcome="failed", reason=reason)
        for name, reason in zip(samples, reasons, strict=False)
    }
    found = pair_scores(samples, metric, [right | lost], [right])
    assert found == Refusal("more than 1% of questions have no score", f"2 of 20: {told}")


def test_a_few_failures_leave_their_questions_out(compare: Callable[..., dict[str, Any]]) -> None:
    values = flips(fixed=90, broke=10, both=99)
    compared = compare({model: [*row, "failed"] for model, row in values.items()}, images=range(200))
    (entry,) = compared["stated"]
    assert (entry["verdict"], entry["num_questions"], entry["num_failed"]) == ("improved", 199, 1)
    assert compared["arms"][0]["metrics"]["closed_accuracy"]["num_failed"] == 1


@pytest.mark.parametrize("name", ["nll", "perplexity"])
def test_losses_of_different_tokenizers_are_not_ranked(compare: Callable[..., dict[str, Any]], name: str) -> None:
    losses = [{"nll": 1.0 + 0.1 * n, "tokens": 3.0} for n in range(20)]
    others = [*losses[:-1], {"nll": 1.0, "tokens": 4.0}]
    compared = compare({"base": losses, "sft": others}, images=range(20), metric=METRICS[name])
    assert refused(compared["stated"][0], "different tokenizers")
    assert any(note.startswith(f"{name} of base, sft is per token") for note in compared["notes"])


def test_a_ratio_that_divides_by_zero_is_refused(compare: Callable[..., dict[str, Any]]) -> None:
    never = [{"tn": 1.0}, {"fn": 1.0}] * 10
    sometimes = [{"fp": 1.0}, {"tp": 1.0}] * 10
    metric = METRICS["closed_precision"]
    compared = compare({"base": never, "sft": sometimes}, images=range(20), metric=metric)
    assert refused(compared["stated"][0], "undefined value")
    assert [arm["metrics"]["closed_precision"]["value"] for arm in compared["arms"]] == [None, 0.5]


def test_a_lower_loss_is_an_improvement(compare: Callable[..., dict[str, Any]]) -> None:
    generator = np.random.default_rng(8)
    losses = generator.gamma(2.0, 0.5, size=60)
    base = [{"nll": float(loss), "tokens": 2.0} for loss in losses]
    sft = [{"nll": float(loss * generator.uniform(0.5, 0.9)), "tokens": 2.0} for loss in losses]
    (entry,) = compare({"base": base, "sft": sft}, images=[n % 20 for n in range(60)], metric=METRICS["nll"])["stated"]
    assert entry["verdict"] == "improved" and entry["interval"][1] < 0
    assert (entry["fixed"], entry["broke"], entry["p_check_method"]) == (60, 0, "label-swap")
    expected = (sum(row["nll"] for row in sft) - sum(row["nll"] for row in base)) / 120
    assert entry["difference"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([("q000", 1.0), ("q000", 1.0)], "'q000' has two scores"),
        ([("elsewhere", 1.0)], "'elsewhere', which is not in the data"),
        ([("q000", float("nan"))], "'q000' is scored nan"),
        ([("q000", None)], "'q000' is scored None"),
    ],
)
def test_scores_that_cannot_be_are_refused(
    make_samples: MakeSamples, scores: list[tuple[str, float | None]], message: str
) -> None:
    rows = [Score(sample_id=name, metric=ACCURACY.name, outcome="scored", value=value) for name, value in scores]
    with pytest.raises(DataError, match=message):
        compare_models(
            study="test",
            samples={"d": make_samples([0])},
            scores={("base", "d", "plain"): {ACCURACY.name: rows}},
            metrics=[ACCURACY],
            stated=[],
        )


def test_an_unmeasured_metric_is_the_studys_fault(compare: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(StudyError, match="the study measures closed_accuracy"):
        compare(flips(fixed=9, broke=1), images=range(10), stated=[Comparison(model="sft", against="base", by="bleu")])


def test_one_model_alone_is_measured_and_held_against_a_constant_answer() -> None:
    study = invented_study(9, 120, 40, ["mine"])
    compared = compare_models(**study, stated=[])
    (arm,) = compared["arms"]
    assert (compared["stated"], compared["exploratory"]) == ([], [])
    assert (arm["num_questions"], arm["num_images"]) == (120, len({s.image_id for s in study["samples"]["d"].values()}))
    accuracy = arm["metrics"]["closed_accuracy"]
    low, high = accuracy["interval"]
    assert 0 < low < accuracy["value"] < high < 1
    references = [sample.answer for sample in study["samples"]["d"].values()]
    baseline = next(row for row in compared["baselines"] if row["metric"] == "closed_accuracy")
    most = max(("no", "yes"), key=references.count)
    assert (baseline["answer"], baseline["value"]) == (most, references.count(most) / 120)
