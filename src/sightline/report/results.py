"""The table of all arms and metrics: one panel per evaluation set, wording and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.axes import Scale, scale_around
from sightline.report.reading import Row
from sightline.report.sides import metric_order
from sightline.report.verdicts import interval_text
from sightline.report.wording import count, level, unit_name
from sightline.verdict.sentences import about_images

STRIP_MIDDLE = 13
_LONG_NAME = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """One model under one metric.

    Args:
        model: its name.
        value: the metric, without unit.
        interval: its interval, without unit.
        strip: the drawing.
        clean: the metric without the rows that training has seen; the same where it has seen none.
        num_counted: answers behind the value, those from which nothing could be read among them.
        num_unparsed: answers from which nothing could be read.
        num_failed: answers whose scoring broke.
        num_not_applicable: questions outside the metric.
    """

    model: str
    value: str
    interval: str
    strip: Markup
    clean: str
    num_counted: str
    num_unparsed: str
    num_failed: str
    num_not_applicable: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """All models under one metric.

    Args:
        metric: the metric's name.
        title: the metric's title.
        unit: of the values.
        higher_is_better: which way is up.
        rows: one per model.
        baseline: value and answer of always giving the most frequent answer, or None.
        baseline_strip: its drawing.
        axis: the axis's drawing.
        any_failed: whether some scoring broke.
        any_not_applicable: whether some questions lie outside the metric.
        any_clean: whether training has seen some rows.
    """

    metric: str
    title: str
    unit: str
    higher_is_better: bool
    rows: tuple[ArmRow, ...]
    baseline: tuple[str, str] | None
    baseline_strip: Markup
    axis: Markup
    any_failed: bool
    any_not_applicable: bool
    any_clean: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """All models under all metrics on one evaluation set in one wording.

    Args:
        data: the evaluation set.
        template: the wording.
        asked: how many questions about how many images, in words.
        long_names: whether the models' names need room.
        panels: one per metric.
    """

    data: str
    template: str
    asked: str
    long_names: bool
    panels: tuple[Panel, ...]


def _panel(metric: str, arms: Sequence[Row], baseline: Row | None) -> Panel:
    values = [(arm["model"], arm["metrics"][metric]) for arm in arms if metric in arm["metrics"]]
    first = values[0][1]
    unit = first.get("unit") or "rate"
    factor = 100 if unit == "rate" else 1
    drawn = [end for _, value in values for end in (value.get("interval") or ())]
    drawn += [value.get("value") for _, value in values]
    base_value = baseline.get("value") if baseline else None
    shown = scale_around([v * factor for v in [*drawn, base_value] if v is not None], intervals=4)
    scale = Scale(shown.low / factor, shown.high / factor, shown.step / factor)
    lines = drawing.grid(scale, zero=False) + drawing.reference_line(scale, base_value)
    rows = tuple(
        ArmRow(
            model=model,
            value=level(value.get("value"), unit),
            interval=interval_text(value.get("interval"), unit, of_change=False),
            strip=lines
            + drawing.whisker(scale, value.get("value"), value.get("interval"), tone="level", y=STRIP_MIDDLE),
            clean=level((value.get("clean") or value).get("value"), unit),
            num_counted=count(_num_counted(value)),
            num_unparsed=count(value.get("num_unparsed")),
            num_failed=count(value.get("num_failed")),
            num_not_applicable=count(value.get("num_not_applicable")),
        )
        for model, value in values
    )
    return Panel(
        metric=metric,
        title=first.get("title") or metric,
        unit=unit_name(unit, of_change=False),
        higher_is_better=bool(first.get("higher_is_better", True)),
        rows=rows,
        baseline=(level(base_value, unit), str(baseline.get("answer") or "")) if baseline else None,
        baseline_strip=lines,
        axis=drawing.axis(shown, most=3),
        any_failed=any(value.get("num_failed") for _, value in values),
        any_not_applicable=any(value.get("num_not_applicable") for _, value in values),
        any_clean=any(value.get("clean") for _, value in values),
    )


def _num_counted(value: Row) -> int | None:
    counts = [value.get("num_scored"), value.get("num_unparsed") or 0]
    return None if counts[0] is None else sum(counts)


def _asked(arm: Row) -> str:
    """Say how much an arm was asked; `compare.json` of before has no groups."""
    num_images = arm.get("num_images") or 0
    images = about_images(num_images, arm.get("num_groups", num_images))
    most = count(arm.get("max_questions_per_image"))
    return f"{count(arm.get('num_questions'))} questions on {images}, at most {most} about one"


def result_tables(compare: Row) -> tuple[ResultTable, ...]:
    """Prepare every arm under every metric.

    Args:
        compare: the content of compare.json.

    Returns:
        One table per evaluation set and wording, in the order of the arms.
    """
    grouped: dict[tuple[str, str], list[Row]] = {}
    for arm in compare.get("arms") or ():
        grouped.setdefault((arm["data"], arm.get("template") or "plain"), []).append(arm)
    baselines = {(row["data"], row["metric"]): row for row in compare.get("baselines") or ()}
    tables = []
    for (data, template), arms in grouped.items():
        metrics = [name for name in metric_order(compare) if any(name in arm["metrics"] for arm in arms)]
        tables.append(
            ResultTable(
                data=data,
                template=template,
                asked=_asked(arms[0]),
                long_names=max(len(arm["model"]) for arm in arms) > _LONG_NAME,
                panels=tuple(_panel(metric, arms, baselines.get((data, metric))) for metric in metrics),
            )
        )
    return tuple(tables)
