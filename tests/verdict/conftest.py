"""Small invented studies: samples, and scores by hand, from which comparisons are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sightline.records import Message, Picture, Sample, Score
from sightline.scoring.metrics import METRICS, Metric
from sightline.verdict.compare import Comparison, compare_models

Values = Sequence[float | str | Mapping[str, float]]
"""A score per question: a value, the parts of a ratio, or an outcome."""


MakeSamples = Callable[..., dict[str, Sample]]


@pytest.fixture
def make_samples() -> MakeSamples:
    """A function from the image number, or numbers, of each question to samples "q000", ... with the reference yes.

    `answers` gives other references, question by question.
    """

    def make(images: Sequence[int | Sequence[int]], answers: Sequence[str] = ()) -> dict[str, Sample]:
        return {
            f"q{index:03d}": Sample(
                id=f"q{index:03d}",
                pictures=tuple(
                    Picture(name=f"{image}.png", sha256=f"{image:064d}", width=8, height=8)
                    for image in ((shown,) if isinstance(shown, int) else shown)
                ),
                messages=(Message(role="user", content=(0, "Is there a nodule?")),),
                answer=answers[index] if answers else "yes",
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
                parts = {"fn": 1.0} if value == "unparsed" and METRICS[metric].kind == "ratio" else {}
                scores.append(Score(sample_id=name, metric=metric, outcome=value, parts=parts))  # type: ignore[arg-type]
            elif isinstance(value, Mapping):
                scores.append(Score(sample_id=name, metric=metric, outcome="scored", parts=value))
            else:
                scores.append(Score(sample_id=name, metric=metric, outcome="scored", value=float(value)))
        return scores

    return make


@pytest.fixture
def compare(make_samples: MakeSamples, make_scores: Callable[..., list[Score]]) -> Callable[..., dict[str, Any]]:
    """A function that compares models on one data set, from each model's values in the order of the questions.

    Values may be given by wording; `answers` are the references, all of them yes by default.
    """

    def run(
        values: Mapping[str, Any],
        *,
        images: Sequence[int],
        metric: Metric = METRICS["closed_accuracy"],
        stated: Sequence[Comparison] = (Comparison(model="sft", against="base"),),
        answers: Sequence[str] = (),
        **more: Any,
    ) -> dict[str, Any]:
        by_wording = {
            (model, wording): row
            for model, given in values.items()
            for wording, row in (given.items() if isinstance(given, Mapping) else [("plain", given)])
        }
        return compare_models(
            study="test",
            samples={"d": make_samples(images, answers)},
            scores={
                (model, "d", wording): {metric.name: make_scores(row, metric.name)}
                for (model, wording), row in by_wording.items()
            },
            metrics=[metric],
            stated=stated,
            **more,
        )

    return run
