"""The metrics by name: what each is called, how scores combine into one number, and which way is better."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sightline.errors import DataError, StudyError
from sightline.records import Answer, Sample, Score
from sightline.scoring import vqa
from sightline.scoring.custom import load_function, score_by


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric that is one weighted sum of parts over another, such as precision or loss per token.

    Args:
        numerator: weight of each part above the line.
        denominator: weight of each part below it.
    """

    numerator: Mapping[str, float]
    denominator: Mapping[str, float]

    def __call__(self, parts: Mapping[str, Any]) -> Any:
        """Combine summed parts.

        Args:
            parts: name to sum; floats, or float64 arrays of one shape for many sums at once. Absent means 0.

        Returns:
            the value: None (in an array: nan) where the denominator is 0 and the metric undefined.
        """
        above = sum((weight * parts[name] for name, weight in self.numerator.items() if name in parts), 0.0)
        below = sum((weight * parts[name] for name, weight in self.denominator.items() if name in parts), 0.0)
        shapes = [part.shape for part in parts.values() if isinstance(part, np.ndarray)]
        if shapes:
            return np.divide(above, below, out=np.full(shapes[0], np.nan), where=np.not_equal(below, 0))
        return above / below if below else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How answers are measured.

    Args:
        name: as the study writes it.
        title: as a reader should see it.
        higher_is_better: False for losses.
        kind: "mean" of the scores' values, or "ratio": a function of their summed parts.
        combine: for ratios, summed parts to value; None where undefined. Takes arrays too, see `Ratio`.
        score: one answer to its score; None where the scores come from elsewhere (nll: from the engine).
        unit: "rate" in [0, 1], or "nats" per token.
    """

    name: str
    title: str
    higher_is_better: bool = True
    kind: Literal["mean", "ratio"] = "mean"
    combine: Callable[[Mapping[str, Any]], Any] | None = None
    score: Callable[[Sample, Answer], Score] | None = None
    unit: Literal["rate", "nats"] = "rate"


def _confusion_metric(name: str, title: str, ratio: Ratio) -> Metric:
    score = functools.partial(vqa.closed_confusion, metric=name)
    return Metric(name=name, title=title, kind="ratio", combine=ratio, score=score)


_METRICS = (
    Metric(name="exact_match", title="Exact match", score=vqa.exact_match),
    Metric(name="closed_accuracy", title="Closed-question accuracy", score=vqa.closed_accuracy),
    _confusion_metric("closed_precision", "Closed-question precision (yes)", Ratio({"tp": 1}, {"tp": 1, "fp": 1})),
    _confusion_metric("closed_recall", "Closed-question recall (yes)", Ratio({"tp": 1}, {"tp": 1, "fn": 1})),
    _confusion_metric("closed_f1", "Closed-question F1 (yes)", Ratio({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})),
    Metric(name="open_recall", title="Open-question token recall", score=vqa.open_recall),
    Metric(name="open_f1", title="Open-question token F1", score=vqa.open_f1),
    Metric(
        name="nll",
        title="Reference answer loss",
        higher_is_better=False,
        kind="ratio",
        combine=Ratio({"nll": 1}, {"tokens": 1}),
        unit="nats",
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}

CLOSED_METRICS = frozenset(name for name in METRICS if name.startswith("closed_"))


def metric_named(name: str, folder: Path | None = None) -> Metric:
    """Find a metric: a built-in, or a user's own function as "file.py:function".

    Args:
        name: as the study writes it.
        folder: where relative files start; the study file's folder. None: the current folder.

    Raises:
        StudyError: no such metric, file or function.
    """
    if name in METRICS:
        return METRICS[name]
    if ":" in name:
        function = load_function(name, folder or Path())
        title = name.rpartition(":")[2].replace("_", " ").strip()
        return Metric(name=name, title=title, score=functools.partial(score_by, function, metric=name))
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise StudyError(f"metric {name!r} is unknown{hint} (known: {', '.join(METRICS)}, or your own as FILE.py:FUNCTION)")


def score_answers(metric: Metric, samples: Mapping[str, Sample], answers: Iterable[Answer]) -> list[Score]:
    """Score answers by one metric, in the order given.

    Raises:
        DataError: an answer to a sample that is not there.
        ValueError: a metric whose scores come from the engine.
    """
    if metric.score is None:
        raise ValueError(f"the scores of {metric.name} come from the engine, not from answers")
    scores = []
    for answer in answers:
        sample = samples.get(answer.sample_id)
        if sample is None:
            raise DataError(
                f"answers of {answer.model} on {answer.data}: sample {answer.sample_id!r} is not in the data; "
                "score them against the rows they were asked about"
            )
        scores.append(metric.score(sample, answer))
    return scores
