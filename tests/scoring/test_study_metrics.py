"""The metrics a study can name go through the verdict: their parts add up over images, and have intervals."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

from sightline.records import Answer, Message, Picture, Sample, Score
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import METRICS, score_answers
from sightline.verdict.arms import describe_arm
from sightline.verdict.compare import Comparison, compare_models

NAMES = ("pope_accuracy", "pope_f1", "yes_ratio", "bleu", "rouge_l", "distinct_2", "answer_length", "token_f1")


def asked(number: int) -> Sample:
    picture = Picture(name=f"{number // 6}.png", sha256=str(number // 6), width=8, height=8)
    message = Message(role="user", content=(0, f"Question {number}?"))
    return Sample(id=str(number), pictures=(picture,), messages=(message,), answer="yes" if number % 2 else "no")


SAMPLES = {str(number): asked(number) for number in range(120)}
SAID = ["yes", "no", "Yes, there is one of them there.", "no no no no", "The chest is normal."]


def answers_of(model: str, seed: int) -> list[Answer]:
    said = np.random.default_rng(seed).choice(SAID, len(SAMPLES), p=[0.3, 0.3, 0.2, 0.15, 0.05])
    return [
        Answer(sample_id=name, model=model, data="d", text=str(text), finish_reason="stop", num_tokens=1)
        for name, text in zip(SAMPLES, said, strict=True)
    ]


ANSWERS = {"base": answers_of("base", 1), "sft": answers_of("sft", 2)}


def losses(seed: int) -> list[Score]:
    nll = np.random.default_rng(seed).gamma(2.0, 1.0, len(SAMPLES))
    return [
        Score(sample_id=name, metric="nll", outcome="scored", parts={"nll": float(each), "tokens": 2.0})
        for name, each in zip(SAMPLES, nll, strict=True)
    ]


@pytest.fixture(scope="module")
def compared() -> dict:
    by_model = {
        (model, "d", "plain"): {name: score_answers(METRICS[name], SAMPLES, answers) for name in NAMES}
        | {"perplexity": losses(seed)}
        for seed, (model, answers) in enumerate(ANSWERS.items())
    }
    found = compare_models(
        study="s",
        samples={"d": SAMPLES},
        scores=by_model,
        metrics=[METRICS[name] for name in (*NAMES, "perplexity")],
        stated=[Comparison(model="sft", against="base", by=name) for name in (*NAMES, "perplexity")],
    )
    return json.loads(json.dumps(found, allow_nan=False))


def test_every_metric_gets_a_verdict_with_an_interval(compared: dict) -> None:
    assert [entry["metric"] for entry in compared["stated"]] == [*NAMES, "perplexity"]
    for entry in compared["stated"]:
        low, high = entry["interval"]
        assert low <= entry["difference"] <= high, entry["metric"]
        assert entry["verdict"] != "cannot decide" and entry["sentence"]


def test_an_arms_value_is_that_of_the_whole_corpus(compared: dict) -> None:
    for arm in compared["arms"]:
        texts = [answer.text for answer in ANSWERS[arm["model"]]]
        references = [sample.answer for sample in SAMPLES.values()]
        values = {name: metric["value"] for name, metric in arm["metrics"].items()}
        assert values["bleu"] == pytest.approx(BLEU().corpus_score(texts, [references]).score / 100, abs=1e-9)
        says_yes = [text.lower().startswith("yes") for text in texts]
        assert values["pope_f1"] == pytest.approx(f1_score([each == "yes" for each in references], says_yes), abs=1e-9)
        assert values["yes_ratio"] == pytest.approx(np.mean(says_yes))
        assert values["answer_length"] == pytest.approx(np.mean([len(text.split()) for text in texts]))
        for name, metric in arm["metrics"].items():
            assert metric["interval"][0] < metric["value"] < metric["interval"][1], name


def test_a_constant_answer_is_what_probes_are_held_against(compared: dict) -> None:
    baselines = {each["metric"]: each["value"] for each in compared["baselines"]}
    assert baselines["pope_accuracy"] == 0.5


def test_a_mean_of_zeros_and_ones_that_is_no_rate_has_no_interval_of_a_share():
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    samples = {str(n): dataclasses.replace(asked(6 * n), id=str(n)) for n in range(len(values))}
    by_id = {str(n): Score(sample_id=str(n), metric="m", outcome="scored", value=v) for n, v in enumerate(values)}
    intervals = {}
    for unit in ("rate", "words"):
        metric = Metric(name="m", title="m", unit=unit)
        arm = describe_arm(samples, [metric], {"m": by_id}, model="m", data="d", template="t", seed=0, alpha=0.05)
        intervals[unit] = arm["metrics"]["m"]["interval"]
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert intervals["words"] == pytest.approx(expected)
    assert intervals["rate"] == pytest.approx(list(proportion_confint(4, 12, method="wilson")))
