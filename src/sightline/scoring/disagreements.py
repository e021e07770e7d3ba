"""Which answers make the difference between two rules' numbers: those that the rules read differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sightline.records import Answer, Sample, Score

NUM_EXAMPLES = 3


def reading_of(score: Score) -> str:
    """Say in a word what a rule made of an answer: what it said, or whether it was right."""
    if score.outcome == "not_applicable":
        return "left out"
    if score.outcome == "unparsed":
        return "unread"
    if score.value is not None:
        return {0.0: "wrong", 1.0: "right"}.get(score.value, f"{score.value:.3f}")
    return score.parsed or "unread"


def find_disagreements(
    samples: Sequence[Sample], answers: Sequence[Answer], readings: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Group the answers that rules read differently by how each rule read them.

    Args:
        samples: the rows.
        answers: one to each.
        readings: rule to what it made of each answer.

    Returns:
        the groups, largest first: `readings` by rule, `num_answers`, and a few `examples`.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, read in enumerate(zip(*readings.values(), strict=True)):
        if len(set(read)) > 1:
            groups.setdefault(read, []).append(place)
    return [
        {
            "readings": dict(zip(readings, read, strict=True)),
            "num_answers": len(places),
            "examples": [example(samples[place], answers[place]) for place in places[:NUM_EXAMPLES]],
        }
        for read, places in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def example(sample: Sample, answer: Answer) -> dict[str, str]:
    """Show an answer with what it answers."""
    return {
        "id": sample.id,
        "image": sample.pictures[0].name if sample.pictures else "",
        "question": sample.question,
        "reference": sample.answer,
        "answer": answer.text,
    }
