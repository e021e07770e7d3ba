"""The table of all arms and metrics: one panel per evaluation set, wording and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.axes import Scale, scale_around
from sightline.report.metric_facts import facts_of
from sightline.report.reading import Row
from sightline.report.sides import metric_order
from sightline.report.verdicts import by_people, interval_text
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
        num_counted: answers behind the value, those from which nothing could be read among them, and of how many
            where it is a share of part of them.
        num_unparsed: answers from which nothing could be read.
        num_failed: answers whose scoring broke.
        num_not_applicable: questions outside the metric.
        people: the value corrected with people's labels, without unit; "" where there are none.
        people_interval: its interval, and how many answers they labelled.
        people_lead: whether there are labels enough for it to stand before the metric's own value.
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
    people: str
    people_interval: str
    people_lead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """All models under one metric.

    Args:
        metric: the metric's name.
        title: the metric's title.
        unit: of the values.
        direction: which way is up, in words.
        rows: one per model.
        baseline: value and answer of always giving the most frequent answer, or None.
        baseline_strip: its drawing.
        axis: the axis's drawing.
        any_failed: whether some scoring broke.
        any_not_applicable: whether some questions lie outside the metric.
        any_clean: whether training has seen some rows.
        any_people: whether people labelled some answers.
        no_interval: why values stand without an interval, where some do.
    """

    metric: str
    title: str
    unit: str
    direction: str
    rows: tuple[ArmRow, ...]
    baseline: tuple[str, str] | None
    baseline_strip: Markup
    axis: Markup
    any_failed: bool
    any_not_applicable: bool
    any_clean: bool
    any_people: bool
    no_interval: str


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


def _panel(metric: str, arms: Sequence[Row], baseline: Row | None, people: Mapping[tuple[str, ...], Row]) -> Panel:
    values = [(arm["model"], arm["metrics"][metric]) for arm in arms if metric in arm["metrics"]]
    first = values[0][1]
    facts = facts_of(metric, first)
    unit = facts.unit
    factor = 100 if unit == "rate" else 1
    drawn = [end for _, value in values for end in (value.get("interval") or ())]
    drawn += [value.get("value") for _, value in values]
    base_value = baseline.get("value") if baseline else None
    shown = scale_around([v * factor for v in [*drawn, base_value] if v is not None], intervals=4)
    scale = Scale(shown.low / factor, shown.high / factor, shown.step / factor)
    lines = drawing.grid(scale, zero=False) + drawing.reference_line(scale, base_value)
    place = (arms[0]["data"], arms[0].get("template") or "plain", metric)
    labelled = {model: people.get((model, *place), {}) for model, _ in values}
    rows = tuple(
        ArmRow(
            model=model,
            value=level(value.get("value"), unit),
            interval=interval_text(value.get("interval"), unit, of_change=False),
            strip=lines
            + drawing.whisker(scale, value.get("value"), value.get("interval"), tone="level", y=STRIP_MIDDLE),
            clean=level((value.get("clean") or value).get("value"), unit),
            num_counted=answers_behind(value),
            num_unparsed=count(value.get("num_unparsed")),
            num_failed=count(value.get("num_failed")),
            num_not_applicable=count(value.get("num_not_applicable")),
            people=level(labelled[model].get("value"), unit) if labelled[model] else "",
            people_interval=people_interval(labelled[model]),
            people_lead=bool(labelled[model].get("headline")),
        )
        for model, value in values
    )
    return Panel(
        metric=metric,
        title=facts.title,
        unit=unit_name(unit, of_change=False),
        direction=facts.direction,
        rows=rows,
        baseline=(level(base_value, unit), str(baseline.get("answer") or "")) if baseline else None,
        baseline_strip=lines,
        axis=drawing.axis(shown, most=3),
        any_failed=any(value.get("num_failed") for _, value in values),
        any_not_applicable=any(value.get("num_not_applicable") for _, value in values),
        any_clean=any(value.get("clean") for _, value in values),
        any_people=any(labelled.values()),
        no_interval="; ".join(dict.fromkeys(value["no_interval"] for _, value in values if value.get("no_interval"))),
    )


def people_interval(found: Row) -> str:
    """Say how sure a corrected value is, and on how many labels it stands; "" where there are no labels."""
    if not found:
        return ""
    ends = interval_text(found["interval"], "rate", of_change=False) if found["interval"] else found["reason"]
    return f"{ends}; {count(found['num_labels'])} labels"


def answers_behind(value: Row) -> str:
    """Say how many answers a value rests on, and of how many where that is part of them, as precision on each yes."""
    if value.get("num_scored") is None:
        return count(None)
    num_all = value["num_scored"] + (value.get("num_unparsed") or 0)
    num_counted = value.get("num_counted", num_all)  # compare.json of before has none
    return count(num_all) if num_counted == num_all else f"{count(num_counted)} of {count(num_all)}"


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
    people = by_people(compare, "model")
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
                panels=tuple(_panel(metric, arms, baselines.get((data, metric)), people) for metric in metrics),
            )
        )
    return tuple(tables)
