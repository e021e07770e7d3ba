"""Other tools' ways with visual question answering: what their own code says to awkward answers, and their tables."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from awkward_answers import VERDICTS
from sightline.records import Answer, Message, Sample, Score
from sightline.scoring.metric import Metric
from sightline.scoring.vqa_rules import NOTES, RULES

TOOLS = {"llava-med": 2, "llava-med-2023-08": 3, "lmms-eval": 4, "medico-agent": 5, "sightline": 6}


def sample_of(reference: str, answer_type: str = "CLOSED") -> Sample:
    message = Message(role="user", content=("What is seen?",))
    return Sample(id="q", pictures=(), messages=(message,), answer=reference, tags={"answer_type": answer_type})


def answer_of(text: str) -> Answer:
    return Answer(sample_id="q", model="m", data="d", text=text, finish_reason="stop", num_tokens=1)


def metric_of(rule: str, name: str) -> Metric:
    (metric,) = [metric for metric in RULES[rule] if metric.name == name]
    return metric


def scorer_of(rule: str, name: str) -> Callable[[Sample, Answer], Score]:
    score = metric_of(rule, name).score
    assert score is not None
    return score


def verdict(score: Score) -> object:
    return {"unparsed": "unread", "not_applicable": "out"}.get(score.outcome, score.value)


@pytest.mark.parametrize("rule", TOOLS)
def test_every_answer_gets_the_verdict_of_the_tool_itself(rule: str) -> None:
    score = scorer_of(rule, "exact_match" if rule == "medico-agent" else "closed_accuracy")
    found = {row[:2]: verdict(score(sample_of(row[0]), answer_of(row[1]))) for row in VERDICTS}
    assert found == {row[:2]: row[TOOLS[rule]] for row in VERDICTS}


def test_every_rule_has_its_metrics_and_its_notes() -> None:
    assert RULES.keys() == TOOLS.keys() == NOTES.keys()
    names = {rule: [metric.name for metric in metrics] for rule, metrics in RULES.items()}
    assert names["lmms-eval"] == ["exact_match", "closed_accuracy", "open_accuracy"]
    assert (
        names["llava-med"] == names["llava-med-2023-08"] == ["exact_match", "closed_accuracy", "open_recall", "open_f1"]
    )


@pytest.mark.parametrize(("answer_type", "asked"), [("OPEN", ["open_"]), ("CLOSED", ["closed_"])])
def test_open_and_closed_questions_go_to_their_own_metrics(answer_type: str, asked: list[str]) -> None:
    for metrics in RULES.values():
        for metric in metrics:
            if metric.name.startswith(("open_", "closed_")):
                assert metric.score is not None
                outcome = metric.score(sample_of("yes", answer_type), answer_of("yes")).outcome
                assert (outcome == "scored") == metric.name.startswith(tuple(asked)), metric.name


@pytest.mark.parametrize(
    ("reference", "text", "share"),
    [
        ("right lower lobe", "lobe lobe of the lung", 1 / 4),
        ("two", "2 2", 1 / 2),
        ("lung", "", 0.0),
        ("lung", "lung", 1.0),
    ],
)
def test_what_llava_med_calls_an_exact_match(reference: str, text: str, share: float) -> None:
    score = scorer_of("llava-med", "exact_match")
    assert score(sample_of(reference, "OPEN"), answer_of(text)).value == pytest.approx(share)
    assert score(sample_of(reference, "CLOSED"), answer_of(text)).outcome == "not_applicable"


def test_more_than_32_periods_are_not_all_taken_out_by_llava_med() -> None:
    score = scorer_of("llava-med", "open_recall")
    assert score(sample_of("lung", "OPEN"), answer_of("." * 64 + "lung")).value == 1.0  # 32 in each of two passes
    assert score(sample_of("lung", "OPEN"), answer_of("." * 65 + "lung")).value == 0.0


# MEDICO-AGENT's closed table of VQA-RAD, 1,297 questions of which 586 have the reference yes: accuracy, precision,
# recall and F1 in percent.
@pytest.mark.parametrize(
    ("counts", "printed"),
    [((412, 110, 601, 174), (78.10, 78.93, 70.31, 74.37)), ((340, 122, 589, 246), (71.63, 73.59, 58.02, 64.89))],
)
def test_a_published_closed_table_follows_from_its_counts(counts: tuple[int, ...], printed: tuple[float, ...]) -> None:
    asked = (("yes", "Yes."), ("no", "yes"), ("left", "right"), ("yes", "no"))
    for name, shown in zip(("accuracy", "precision", "recall", "f1"), printed, strict=True):
        metric = metric_of("medico-agent", f"closed_{name}")
        assert metric.score is not None and metric.combine is not None
        cells: Counter[str] = Counter()
        for (reference, text), number in zip(asked, counts, strict=True):
            (cell,) = metric.score(sample_of(reference), answer_of(text)).parts
            cells[cell] += number
        assert round(100 * metric.combine(dict(cells)), 2) == shown


def test_vqa_rad_has_the_closed_questions_of_that_table(shared: Path) -> None:
    whole = json.loads((shared / "data/vqa_rad/VQA_RAD_Dataset_Public.json").read_text(encoding="utf-8"))
    closed = [str(row["answer"]).strip().lower() for row in whole if row["answer_type"] == "CLOSED"]
    assert (len(closed), closed.count("yes")) == (1_297, 586)


def test_answers_of_one_word_on_the_real_test_set_tell_the_rules_apart(shared: Path) -> None:
    with (shared / "data/vqa_rad/hf_order_test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {}
    for rule in RULES:
        metric = metric_of(rule, "closed_accuracy")
        assert metric.score is not None
        scores = [metric.score(sample_of(row["answer"], row["answer_type"]), answer_of("no")) for row in rows]
        counted = [score for score in scores if score.outcome == "scored"]
        if metric.combine is not None:
            cells: Counter[str] = Counter()
            for score in counted:
                cells.update(score.parts)  # type: ignore[arg-type]
            values[rule] = (len(counted), metric.combine(dict(cells)))
        else:
            values[rule] = (len(counted), sum(score.value or 0 for score in counted) / len(counted))
    # 272 closed questions, 133 of them no, 118 yes, 21 neither: those are right for whoever asks only "is it yes?".
    assert values["sightline"] == values["llava-med"] == values["lmms-eval"] == (272, pytest.approx(133 / 272))
    assert values["medico-agent"] == (272, pytest.approx(154 / 272))
    assert values["llava-med-2023-08"] == (133, 1.0)
