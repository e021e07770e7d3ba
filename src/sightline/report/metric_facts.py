"""What a reader must know of a metric, as compare.json has it."""

from __future__ import annotations

from typing import NamedTuple

from sightline.report.reading import Row


class MetricFacts(NamedTuple):
    """What a reader must know of a metric.

    Args:
        title: as a reader should see it.
        unit: of its values; of their differences, see `unit_name`.
        higher_is_better: which way is up; says nothing where `neutral`.
        neutral: neither way is.
    """

    title: str
    unit: str = "rate"
    higher_is_better: bool = True
    neutral: bool = False

    @property
    def direction(self) -> str:
        """Which way is up, in words."""
        if self.neutral:
            return "neither direction is better"
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def is_right_or_wrong(self) -> bool:
        """Whether single answers are right, wrong or in part right by it."""
        return self.unit == "rate" and not self.neutral


def facts_of(name: str, measured: Row) -> MetricFacts:
    """Read a metric's facts from what compare.json says of it; a rate where it says nothing."""
    return MetricFacts(
        title=str(measured.get("title") or name),
        unit=str(measured.get("unit") or "rate"),
        higher_is_better=bool(measured.get("higher_is_better", True)),
        neutral=bool(measured.get("neutral")),
    )


def metric_facts(compare: Row, metric: str) -> MetricFacts:
    """Give a metric's facts."""
    arms = compare.get("arms") or ()
    measured: Row = next((arm["metrics"][metric] for arm in arms if metric in arm["metrics"]), {})
    return facts_of(metric, measured)
