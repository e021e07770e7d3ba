"""What a metric is: how scores combine into one number, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sightline.records import Answer, Sample, Score


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric that is one weighted sum of parts over another, such as precision or loss per token.

    Args:
        numerator: weight of each part above the line.
        denominator: weight of each part below it.
        otherwise: the value where the denominator is 0; None: the metric is undefined there.
    """

    numerator: Mapping[str, float]
    denominator: Mapping[str, float]
    otherwise: float | None = None

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
            undefined = np.full(shapes[0], np.nan if self.otherwise is None else self.otherwise)
            return np.divide(above, below, out=undefined, where=np.not_equal(below, 0))
        return above / below if below else self.otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How answers are measured.

    Args:
        name: as the study writes it.
        title: as a reader should see it.
        higher_is_better: False for losses. Says nothing where `neutral`.
        kind: "mean" of the scores' values, or "ratio": a function of their summed parts.
        combine: for ratios, summed parts to value; None where undefined. Takes arrays too, see `Ratio`.
        score: one answer to its score; None where the scores come from elsewhere (nll: from the engine).
        unit: "rate" in [0, 1], "nats" per token, "words" per answer, "perplexity", or "sd": standard deviations.
        neutral: neither direction is better, as of an answer's length; a change is a change, no more.
    """

    name: str
    title: str
    higher_is_better: bool = True
    kind: Literal["mean", "ratio"] = "mean"
    combine: Callable[[Mapping[str, Any]], Any] | None = None
    score: Callable[[Sample, Answer], Score] | None = None
    unit: Literal["rate", "nats", "words", "perplexity", "sd"] = "rate"
    neutral: bool = False
