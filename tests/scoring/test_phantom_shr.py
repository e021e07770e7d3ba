"""SHR with perfect truth: what is false, what is unknown, and what is no description."""

from __future__ import annotations

from sightline.records import Answer, Message, Sample
from sightline.scoring.metrics import METRICS
from sightline.verdict.arms import arm_value

REFERENCE = (
    "The heart is of normal size. The heart lies on the left. There is one nodule in the lungs. "
    "A small nodule lies in the upper left lung. There is no effusion. There is no tube. There is no pacemaker. "
    "There is no catheter."
)
METRIC = METRICS["phantom_shr"]


def score(text: str, reference: str = REFERENCE):
    assert METRIC.score is not None
    sample = Sample(id="1", pictures=(), messages=(Message(role="user", content=("Describe.",)),), answer=reference)
    return METRIC.score(
        sample, Answer(sample_id="1", model="m", data="d", text=text, finish_reason="stop", num_tokens=1)
    )


def test_sentences_are_counted_by_what_is_true():
    found = score(
        "The heart is enlarged. The heart lies on the left. There is no effusion. This is a bar chart. It looks calm."
    )
    assert found.parts == {"hallucination": 2.0, "correct": 2.0, "cannot judge": 1.0, "unjudged": 0.0}
    assert found.parsed == "2 hallucination, 2 correct, 1 cannot judge"
    assert arm_value(METRIC, [found, score("There is a pacemaker on the left."), score("")]) == 3 / 5
    assert arm_value(METRIC, [score(""), score("It looks calm.")]) is None


def test_other_rows_are_none_of_its_business():
    for reference in ("left", "A dog runs. It is brown.", ""):
        found = score("The heart is enlarged.", reference)
        assert found.outcome == "not_applicable" and "ask a judge of kind shr" in found.reason
