"""Small invented studies: samples, and scores by hand, from which comparisons are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from sightline.records import Message, Picture, Sample, Score

Values = Sequence[float | str | Mapping[str, float]]
"""A score per question: a value, the parts of a ratio, or an outcome."""


@pytest.fixture
def make_samples() -> Callable[[Sequence[int | Sequence[int]]], dict[str, Sample]]:
    """A function from the image number, or numbers, of each question to samples "q000", ... with the reference yes."""

    def make(images: Sequence[int | Sequence[int]]) -> dict[str, Sample]:
        return {
            f"q{index:03d}": Sample(
                id=f"q{index:03d}",
                pictures=tuple(
                    Picture(name=f"{image}.png", sha256=f"{image:064d}", width=8, height=8)
                    for image in ((shown,) if isinstance(shown, int) else shown)
                ),
                messages=(Message(role="user", content=(0, "Is there a nodule?")),),
                answer="yes",
            )
            for index, shown in enumerate(images)
        }

    return make


@pytest.fixture
def make_scores() -> Callable[..., list[Score]]:
    """A function from values in the order of the samples, and a metric's name, to scores."""

    def make(values: Values, metric: str = "closed_accuracy") -> list[Score]:
        scores = []
        for index, value in enumerate(values):
            name = f"q{index:03d}"
            if isinstance(value, str):
                parts = {"fn": 1.0} if value == "unparsed" and metric != "closed_accuracy" else {}
                scores.append(Score(sample_id=name, metric=metric, outcome=value, parts=parts))  # type: ignore[arg-type]
            elif isinstance(value, Mapping):
                scores.append(Score(sample_id=name, metric=metric, outcome="scored", parts=value))
            else:
                scores.append(Score(sample_id=name, metric=metric, outcome="scored", value=float(value)))
        return scores

    return make
