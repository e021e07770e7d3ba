"""POPE: what each harness reads in an answer, by its own code, and what it makes of it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from awkward_answers import READINGS
from sightline.records import Answer, Message, Sample
from sightline.scoring.metric import Metric
from sightline.scoring.metrics import METRICS
from sightline.scoring.pope import CELLS, RULES, Rule

READERS = {"original": 0, "llava": 0, "lmms-eval": 1, "vlmevalkit": 2, "sightline": 3}


@pytest.mark.parametrize("rule", RULES)
def test_every_answer_is_read_as_the_harness_itself_reads_it(rule: str) -> None:
    read = {text: RULES[rule].read(text) for text in READINGS}
    assert read == {text: said[READERS[rule]] for text, said in READINGS.items()}


def sample_of(label: str, name: str = "q") -> Sample:
    message = Message(role="user", content=("Is there a dog in the image?",))
    return Sample(id=name, pictures=(), messages=(message,), answer=label)


def answer_of(text: str, name: str = "q") -> Answer:
    return Answer(sample_id=name, model="m", data="d", text=text, finish_reason="stop", num_tokens=1)


def rates_of(rule: Rule, cells: dict[str, float]) -> dict[str, float | None]:
    def value(metric: Metric) -> float | None:
        assert metric.combine is not None
        return metric.combine(cells)

    return {metric.name: value(metric) for metric in rule.metrics}


# HA-DPO's table for LLaVA-1.5-7B, (TP, FP, TN, FN) and what its README prints: accuracy, precision, recall, F1 and
# yes-ratio in percent, cut off after two decimals.
PRINTED = {
    ("random", "base"): ((1360, 172, 1328, 140), (89.60, 88.77, 90.66, 89.70, 51.06)),
    ("popular", "base"): ((1360, 274, 1226, 140), (86.20, 83.23, 90.66, 86.79, 54.46)),
    ("adversarial", "base"): ((1360, 467, 1033, 140), (79.76, 74.43, 90.66, 81.75, 60.90)),
    ("random", "HA-DPO"): ((1315, 99, 1401, 185), (90.53, 92.99, 87.66, 90.25, 47.13)),
    ("popular", "HA-DPO"): ((1315, 178, 1322, 185), (87.90, 88.07, 87.66, 87.81, 49.76)),
    ("adversarial", "HA-DPO"): ((1315, 371, 1129, 185), (81.46, 77.99, 87.66, 82.54, 56.20)),
}


def test_a_published_table_follows_from_its_counts_but_for_one_cell() -> None:
    contradictions = {}
    for row, (counts, printed) in PRINTED.items():
        rates = rates_of(RULES["original"], dict(zip(("tp", "fp", "tn", "fn"), map(float, counts), strict=True)))
        for (name, rate), shown in zip(rates.items(), printed, strict=True):
            assert rate is not None
            cut = math.floor(rate * 10_000 + 1e-9) / 100
            if cut != shown:
                contradictions[*row, name] = (shown, cut)
    assert contradictions == {("popular", "HA-DPO", "f1"): (87.81, 87.87)}


# LLaVA-1.5-13B's published answers to POPE with the older, shorter random subset; the model zoo prints the mean F1.
LLAVA_13B = {
    "adversarial": ((1182, 117, 1383, 318), (85.50, 90.99, 78.80, 84.46, 43.30)),
    "popular": ((1182, 59, 1441, 318), (87.43, 95.25, 78.80, 86.25, 41.37)),
    "random": ((1182, 31, 1379, 318), (88.01, 97.44, 78.80, 87.14, 41.68)),
}


def test_another_published_table_rounds_and_its_headline_is_the_mean_f1() -> None:
    mean = 0.0
    for counts, printed in LLAVA_13B.values():
        rates = rates_of(RULES["llava"], dict(zip(("tp", "fp", "tn", "fn"), map(float, counts), strict=True)))
        assert [round(100 * (rate or 0), 2) for rate in rates.values()] == list(printed)
        mean += (rates["f1"] or 0) / len(LLAVA_13B)
    assert round(100 * mean, 2) == 85.95


def test_rates_of_answers_that_can_all_be_read_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    labels, said = generator.choice(["yes", "no"], (2, 500))
    truth, positive = labels == "yes", said == "yes"
    oracles = {
        "accuracy": accuracy_score(truth, positive),
        "precision": precision_score(truth, positive),
        "recall": recall_score(truth, positive),
        "f1": f1_score(truth, positive),
    }
    for name, rule in RULES.items():
        cells: Counter[str] = Counter()
        for label, text in zip(labels, said, strict=True):
            cells.update(rule.score(sample_of(label), answer_of(text)).parts)  # type: ignore[arg-type]
        rates = rates_of(rule, dict(cells))
        assert {key: rates[key] for key in oracles} == pytest.approx(oracles, abs=1e-12), name
        assert rates.get("yes_ratio") == {
            "lmms-eval": pytest.approx(truth.mean()),
            "vlmevalkit": None,
        }.get(name, pytest.approx(positive.mean()))


def test_what_each_harness_makes_of_answers_it_cannot_read() -> None:
    """6 said right, 1 false yes, 1 missed; then 2 unread where the label is yes, and 3 where it is no."""
    cells = {"tp": 4.0, "tn": 2.0, "fp": 1.0, "fn": 1.0, "unread_yes": 2.0, "unread_no": 3.0}
    ours = {"accuracy": 6 / 13, "precision": 4 / 5, "recall": 4 / 7, "f1": 8 / 12, "yes_ratio": 5 / 13}
    assert rates_of(RULES["sightline"], cells) == pytest.approx(ours)
    assert rates_of(RULES["vlmevalkit"], cells) == pytest.approx({k: v for k, v in ours.items() if k != "yes_ratio"})
    theirs = {**ours, "recall": 4 / 5, "f1": 8 / 10, "yes_ratio": 7 / 13}
    assert rates_of(RULES["lmms-eval"], cells) == pytest.approx(theirs)


def test_where_there_is_nothing_to_divide_by() -> None:
    never_yes = {"tn": 5.0, "fn": 3.0}
    always_wrong = {"fp": 2.0, "fn": 3.0}
    for name, undefined in (("original", None), ("sightline", None), ("lmms-eval", 0.0), ("vlmevalkit", 0.0)):
        assert rates_of(RULES[name], never_yes)["precision"] == undefined
    assert rates_of(RULES["original"], always_wrong)["f1"] is None  # its code divides by precision plus recall, 0
    assert rates_of(RULES["sightline"], always_wrong)["f1"] == 0.0


@pytest.mark.parametrize("rule", RULES)
def test_many_sums_at_once_combine_as_each_by_itself(rule: str) -> None:
    sums = np.random.default_rng(1).integers(0, 4, (50, len(CELLS))).astype(float)
    for metric in RULES[rule].metrics:
        assert metric.combine is not None
        together = metric.combine({cell: sums[:, place] for place, cell in enumerate(CELLS)})
        each = [metric.combine(dict(zip(CELLS, row, strict=True))) for row in sums.tolist()]
        assert together == pytest.approx([np.nan if value is None else value for value in each], nan_ok=True)


@pytest.mark.parametrize(
    ("label", "text", "outcome", "right", "cell", "says_yes"),
    [
        ("yes", "Yes, a dog.", "scored", 1.0, "tp", 1.0),
        ("yes", "NO", "scored", 0.0, "fn", 0.0),
        ("no", "yes", "scored", 0.0, "fp", 1.0),
        ("No", "No</s>", "scored", 1.0, "tn", 0.0),
        ("yes", "The chest is normal.", "unparsed", None, "fn", 0.0),
        ("no", "Yes, there is no dog.", "unparsed", None, "tn", 0.0),
    ],
)
def test_the_metrics_of_a_study(
    label: str, text: str, outcome: str, right: float | None, cell: str, says_yes: float
) -> None:
    def scored(name: str):
        score = METRICS[name].score
        assert score is not None
        return score(sample_of(label), answer_of(text))

    accuracy, f1, yes = scored("pope_accuracy"), scored("pope_f1"), scored("yes_ratio")
    assert (accuracy.outcome, accuracy.value) == (outcome, right)
    assert (f1.outcome, dict(f1.parts)) == (outcome, {cell: 1.0})
    assert (yes.outcome, yes.value) == ("scored", says_yes)


def test_a_question_that_is_no_probe_is_left_out() -> None:
    for name in ("pope_accuracy", "pope_precision", "pope_recall", "pope_f1", "yes_ratio"):
        score = METRICS[name].score
        assert score is not None
        assert score(sample_of("left"), answer_of("yes")).outcome == "not_applicable"
