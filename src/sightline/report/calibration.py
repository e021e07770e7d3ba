"""How far models' confidences can be believed, where a metric's scores carry them.

Shape suffixes: N questions, B bins, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.records import Sample
from sightline.report.reading import Row, StudyFiles
from sightline.report.tables import Cell, Table, amount, columns, interval, number, words
from sightline.report.wording import rounded
from sightline.verdict.columns import group_names, number_groups
from sightline.verdict.pairs import MIN_GROUPS
from sightline.verdict.resampling import cluster_bootstrap
from sightline.verdict.statistics import cluster_sums

CONFIDENCE = "confidence"
"""The part of a score that says how sure the model was, in [0, 1], of an answer that is right (1) or wrong (0)."""

NUM_BINS = 10
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers of about equal confidence.

    Args:
        num: how many.
        confidence: their mean.
        right: the share of them that is right.
    """

    num: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One model's confidences by one metric on one data set.

    Args:
        model: its name.
        metric: whose scores carry confidences.
        data: the evaluation set.
        template: the wording.
        num_questions: with a confidence and a score of 0 or 1.
        bins: of equal numbers of answers, from the least confident.
        error: expected calibration error: the bins' mean distance between confidence and share right.
        error_interval: its 95% interval; None on fewer than 5 groups of images.
        brier: mean squared distance between confidence and right (1) or wrong (0).
        brier_interval: its 95% interval.
    """

    model: str
    metric: str
    data: str
    template: str
    num_questions: int
    bins: tuple[Bin, ...]
    error: float
    error_interval: tuple[float, float] | None
    brier: float
    brier_interval: tuple[float, float] | None


def calibrations(files: StudyFiles) -> tuple[Calibration, ...]:
    """Measure the calibration of every model whose scores carry confidences."""
    return tuple(
        calibration(rows, files.samples[data], model=model, metric=metric, data=data, template=template)
        for (model, metric, data, template), rows in _confident(files)
        if data in files.samples
    )


def _confident(files: StudyFiles) -> Iterator[tuple[tuple[str, str, str, str], list[Row]]]:
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for model, rows in files.scores.items():
        for row in rows:
            if row.get("value") in (0, 1) and CONFIDENCE in (row.get("parts") or {}):
                place = (model, str(row["metric"]), str(row.get("data")), str(row.get("template") or "plain"))
                found.setdefault(place, []).append(row)
    yield from found.items()


def calibration(
    rows: Sequence[Row], samples: Mapping[str, Sample], *, model: str, metric: str, data: str, template: str
) -> Calibration:
    """Measure how far confidences agree with how often the answers are right.

    Args:
        rows: scores of 0 or 1 with a confidence among their parts.
        samples: the data set.
        model: whose.
        metric: which.
        data: the set's name.
        template: the wording.

    Source: expected calibration error: Guo et al. 2017, in bins of equal mass; Brier 1950.
    """
    ordered = sorted(rows, key=lambda row: (row["parts"][CONFIDENCE], row["sample_id"]))
    sure_N = np.array([float(row["parts"][CONFIDENCE]) for row in ordered])
    right_N = np.array([float(row["value"]) for row in ordered])
    bins_N = np.arange(len(ordered)) * NUM_BINS // len(ordered)
    apart_NB = np.where(bins_N[:, None] == np.arange(NUM_BINS), (sure_N - right_N)[:, None], 0.0)
    ones_N = np.ones(len(ordered))
    clusters_N = number_groups(group_names(samples), [row["sample_id"] for row in ordered])

    def error(sums_RB: np.ndarray) -> np.ndarray:
        return np.abs(sums_RB[:, :-1]).sum(axis=1) / sums_RB[:, -1]

    def bounded(columns_NC: np.ndarray, statistic) -> tuple[float, tuple[float, float] | None]:
        sums_GC = cluster_sums(columns_NC.T, clusters_N).T
        if len(sums_GC) < MIN_GROUPS:
            return float(statistic(sums_GC.sum(axis=0)[None, :])[0]), None
        bootstrap = cluster_bootstrap(sums_GC, statistic, seed=SEED)
        low, high = bootstrap.low, bootstrap.high
        return bootstrap.value, None if np.isnan([low, high]).any() else (low, high)

    value, ends = bounded(np.column_stack([apart_NB, ones_N]), error)
    brier, brier_ends = bounded(
        np.column_stack([(sure_N - right_N) ** 2, ones_N]), lambda s_RB: s_RB[:, 0] / s_RB[:, 1]
    )
    return Calibration(
        model=model,
        metric=metric,
        data=data,
        template=template,
        num_questions=len(ordered),
        bins=tuple(
            Bin(num=int(inside.sum()), confidence=float(sure_N[inside].mean()), right=float(right_N[inside].mean()))
            for place in range(NUM_BINS)
            if (inside := bins_N == place).any()
        ),
        error=value,
        error_interval=ends,
        brier=brier,
        brier_interval=brier_ends,
    )


def calibration_table(found: Sequence[Calibration]) -> Table | None:
    """Give the calibrations in numbers."""
    rows = tuple(
        (
            *(words(text) for text in (one.model, one.metric, one.data, one.template)),
            number(one.num_questions),
            amount(one.error, "rate"),
            interval(one.error_interval, "rate", of_change=False),
            Cell(shown=rounded(one.brier, 3), value=one.brier),
            interval(one.brier_interval, "", of_change=False),
        )
        for one in found
    )
    titles = ("Model", "Metric", "Data", "Wording", "#Questions", "#Calibration error (%)", "~Interval", "#Brier score")
    if not rows:
        return None
    note = (
        f"Expected calibration error in {NUM_BINS} bins of equal numbers of answers; "
        "95% intervals by drawing whole images."
    )
    return Table(
        name="calibration",
        title="Confidence and how often it is right",
        columns=columns(*titles, "~Brier interval"),
        rows=rows,
        note=note,
    )
