from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from sightline.records import Answer, Message, Sample, Score
from sightline.scoring import vqa
from sightline.scoring.metrics import METRICS, score_answers


def sample_of(reference: str, answer_type: str | None = None, name: str = "q1") -> Sample:
    tags = {} if answer_type is None else {"answer_type": answer_type}
    message = Message(role="user", content=("What is seen?",))
    return Sample(id=name, pictures=(), messages=(message,), answer=reference, tags=tags)


def answer_of(text: str, name: str = "q1") -> Answer:
    return Answer(sample_id=name, model="base", data="d", text=text, finish_reason="stop", num_tokens=1)


@pytest.mark.parametrize(
    ("reference", "answer_type", "closed"),
    [
        ("yes", None, True),
        ("No.", None, True),
        ("left", None, False),
        ("not seen", None, False),
        ("left", "CLOSED", True),
        ("Maybe", "CLOSED ", True),
        ("mri", "closed", True),
        ("yes", "OPEN", False),
        ("yes", " ", True),
    ],
)
def test_closed_questions_are_known_by_tag_else_by_reference(
    reference: str, answer_type: str | None, closed: bool
) -> None:
    assert vqa.is_closed(sample_of(reference, answer_type)) is closed


@pytest.mark.parametrize(
    ("reference", "text", "outcome", "value"),
    [
        ("yes", "Yes, there is", "scored", 1.0),
        ("yes", "No.", "scored", 0.0),
        ("no", "No acute findings", "scored", 1.0),
        ("no", "normal", "unparsed", None),
        ("no", "", "unparsed", None),
        ("yes", "yes or no", "unparsed", None),
        ("left", "The left", "scored", 1.0),
        ("left", "left side", "scored", 0.0),
    ],
)
def test_closed_accuracy(reference: str, text: str, outcome: str, value: float | None) -> None:
    score = vqa.closed_accuracy(sample_of(reference, "CLOSED"), answer_of(text))
    assert (score.outcome, score.value) == (outcome, value)


def test_a_question_belongs_to_closed_or_open_metrics_never_both() -> None:
    for sample in (sample_of("yes"), sample_of("lungs"), sample_of("left", "CLOSED")):
        outcomes = {
            name: metric.score(sample, answer_of("yes")).outcome for name, metric in METRICS.items() if metric.score
        }
        closed = {outcome for name, outcome in outcomes.items() if name.startswith("closed_")}
        opened = {outcome for name, outcome in outcomes.items() if name.startswith("open_")}
        assert sorted([closed, opened], key=str) == [{"not_applicable"}, {"scored"}]
        assert outcomes["exact_match"] == "scored"


@pytest.mark.parametrize(
    ("reference", "text", "cell", "outcome"),
    [
        ("yes", "yes", "tp", "scored"),
        ("yes", "no", "fn", "scored"),
        ("yes", "perhaps", "fn", "unparsed"),
        ("no", "yes", "fp", "scored"),
        ("no", "no", "tn", "scored"),
        ("no", "normal", "tn", "unparsed"),
        ("left", "right", "tn", "scored"),
        ("left", "yes", "fp", "scored"),
    ],
)
def test_confusion(reference: str, text: str, cell: str, outcome: str) -> None:
    score = vqa.closed_confusion(sample_of(reference, "CLOSED"), answer_of(text), metric="closed_f1")
    assert (dict(score.parts), score.outcome, score.value) == ({cell: 1.0}, outcome, None)


@pytest.mark.parametrize(
    ("parts", "right", "recounted"),
    [({"fn": 1.0}, True, "tp"), ({"fn": 1.0}, False, "fn"), ({"tn": 1.0}, True, "tn"), ({"tn": 1.0}, False, "fp")],
)
def test_bounds_of_an_unparsed_answer(parts: dict[str, float], right: bool, recounted: str) -> None:
    assert vqa.unparsed_confusion(parts, right=right) == {recounted: 1.0}


def test_precision_recall_and_f1_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    references = generator.choice(["yes", "no", "left"], size=400, p=[0.4, 0.5, 0.1])
    texts = generator.choice(["Yes.", "no", "unclear"], size=400, p=[0.5, 0.4, 0.1])
    samples = {f"q{i}": sample_of(str(text), "CLOSED", f"q{i}") for i, text in enumerate(references)}
    answers = [answer_of(str(text), f"q{i}") for i, text in enumerate(texts)]
    truth, said = references == "yes", texts == "Yes."
    for name, oracle in (
        ("closed_precision", precision_score),
        ("closed_recall", recall_score),
        ("closed_f1", f1_score),
    ):
        metric = METRICS[name]
        parts: Counter[str] = Counter()
        for score in score_answers(metric, samples, answers):
            parts.update(score.parts)  # type: ignore[arg-type]
        assert metric.combine is not None
        assert metric.combine(parts) == pytest.approx(oracle(truth, said), abs=1e-12)


@pytest.mark.parametrize("name", ["closed_precision", "closed_recall", "closed_f1"])
def test_zero_over_zero_is_undefined(name: str) -> None:
    combine = METRICS[name].combine
    assert combine is not None
    assert combine({"tn": 5.0}) is None


# Reference of three words, each count worked out by hand from the definition in docs/metrics.md.
@pytest.mark.parametrize(
    ("reference", "text", "precision", "recall"),
    [
        ("right lower lobe", "right lower lobe", 1.0, 1.0),
        ("right lower lobe", "the right lobe", 1.0, 2 / 3),
        ("right lower lobe", "lobe lobe of lung", 2 / 4, 2 / 4),
        ("right lower lobe", "liver", 0.0, 0.0),
        ("right lower lobe", "", 0.0, 0.0),
        ("two", "2", 1.0, 1.0),
    ],
)
def test_token_overlap(reference: str, text: str, precision: float, recall: float) -> None:
    assert vqa.token_overlap(reference, text) == pytest.approx((precision, recall))
    f1 = 2 * precision * recall / (precision + recall) if recall else 0.0
    sample, answer = sample_of(reference), answer_of(text)
    assert vqa.open_recall(sample, answer).value == pytest.approx(recall)
    assert vqa.open_f1(sample, answer).value == pytest.approx(f1)


@pytest.mark.parametrize(
    ("reference", "text", "right"),
    [
        ("left lung", "The left lung.", 1.0),
        ("2", "2.04 cm", 1.0),
        ("2", "2.06 cm", 0.0),
        ("T2", "2", 1.0),
        ("2-3 cm", "2-3", 0.0),
        ("-1", "1", 1.0),  # equal as texts: punctuation goes
        ("1", "one", 0.0),
        ("3", "", 0.0),
    ],
)
def test_exact_match_or_the_same_number(reference: str, text: str, right: float) -> None:
    assert vqa.exact_match_numeric(sample_of(reference), answer_of(text)).value == right


@pytest.mark.parametrize(
    ("reference", "text", "f1"),
    [
        ("right lower lobe", "lobe lobe of lung", 2 * 1 / 7),  # one shared, 3 and 4 words
        ("right lower lobe", "The right lobe.", 2 * 2 / 5),
        ("yes", "no", 0.0),
        ("a lobe", "", 0.0),
    ],
)
def test_token_f1_counts_each_word_as_often_as_both_have_it(reference: str, text: str, f1: float) -> None:
    assert vqa.token_f1(sample_of(reference), answer_of(text)).value == pytest.approx(f1)


def test_vqa_rad_has_the_closed_questions_it_is_known_to_have(shared: Path) -> None:
    whole = json.loads((shared / "data/vqa_rad/VQA_RAD_Dataset_Public.json").read_text(encoding="utf-8"))
    samples = [sample_of(str(row["answer"]), row["answer_type"]) for row in whole]
    assert sum(vqa.is_closed(sample) for sample in samples) == 1_299
    with (shared / "data/vqa_rad/hf_order_test.csv").open(encoding="utf-8", newline="") as file:
        test = list(csv.DictReader(file))
    assert sum(vqa.is_closed(sample_of(row["answer"], row["answer_type"])) for row in test) == 272
    assert sum(vqa.is_closed(sample_of(row["answer"])) for row in test) == 251


def run_published_matrix(score: Callable[[Sample, Answer], Score]) -> Counter[str]:
    """Answers of a published model on VQA-RAD's closed questions, as its four counts give them."""
    cells: Counter[str] = Counter()
    for reference, text, count in (("yes", "yes", 412), ("no", "yes", 110), ("yes", "no", 174), ("no", "no", 601)):
        (cell,) = score(sample_of(reference), answer_of(text)).parts
        cells[cell] += count
    return cells


def test_published_precision_recall_and_f1_are_reproduced() -> None:
    metric = METRICS["closed_f1"]
    assert metric.score is not None and metric.combine is not None
    cells = run_published_matrix(metric.score)
    assert metric.combine(cells) == pytest.approx(2 * 412 / (2 * 412 + 110 + 174))
    precision, recall = METRICS["closed_precision"].combine, METRICS["closed_recall"].combine
    assert precision is not None and recall is not None
    assert precision(cells) == pytest.approx(412 / 522)
    assert recall(cells) == pytest.approx(412 / 586)
