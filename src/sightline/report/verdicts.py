"""The comparisons as a reader meets them: a question, a verdict in words, an interval on a common axis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from sightline.report import drawing
from sightline.report.axes import Scale, scale_about_zero
from sightline.report.metric_facts import metric_facts
from sightline.report.reading import Row
from sightline.report.wording import MINUS, MISSING, change, count, level, p_value, unit_name
from sightline.verdict.sentences import beside, model_in_words, short_reason

_CHECKPOINT_MIDDLE = 14
_HYPHEN_FOR_MINUS = re.compile(r"(?<![\w.)])-(?=\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """One comparison, ready to be shown.

    Args:
        model: the model asked about.
        against: what it is compared with.
        metric: the metric's title.
        data: the evaluation set.
        template: the question's wording, or "" where the study has only one.
        verdict: the verdict's words.
        tone: "good", "bad" or "plain".
        sentence: the rest of the verdict's sentence.
        difference: the change with its sign, without unit.
        interval: its interval, without unit.
        unit: "points" or the metric's unit.
        strip: the drawing, or empty where there is nothing to draw.
        facts: label and text, in the order they are read.
        p: the p value, with its sign of relation.
        p_adjusted: the same after correction.
        fixed: questions on which the model did better than the other.
        broke: the reverse.
        checkpoints: the single training runs behind the comparison, where there are several.
        people: what people's labels make of the difference, in a sentence; "" where there is no label of it.
        why: of a borderline verdict, why, in few words for a table.
        place: which of compare.json's comparisons it is, the stated ones counted first; -1 for one that is none.
    """

    model: str
    against: str
    metric: str
    data: str
    template: str
    verdict: str
    tone: str
    sentence: str
    difference: str
    interval: str
    unit: str
    strip: Markup
    facts: tuple[tuple[str, str], ...]
    p: str
    p_adjusted: str
    fixed: str
    broke: str
    checkpoints: tuple[VerdictView, ...]
    people: str
    why: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictGroup:
    """Comparisons that share an axis.

    Args:
        title: the metric's title, with evaluation set and wording where there are several; of the first comparison.
        unit: of the axis.
        direction: which way is up, in words.
        against: what all comparisons are against, or "" where they differ.
        won: whether single questions are won and lost, rather than moving by degrees.
        views: the comparisons.
        axis: the axis's drawing.
        grid: its vertical lines.
    """

    title: str
    unit: str
    direction: str
    against: str
    won: bool
    views: tuple[VerdictView, ...]
    axis: Markup
    grid: Markup

    @property
    def is_drawn(self) -> bool:
        """Whether any of the comparisons has an interval to draw."""
        return any(view.strip for view in self.views)


def together(views: Iterable[VerdictView]) -> tuple[tuple[VerdictView, ...], ...]:
    """Gather the comparisons of which nothing is known for one and the same reason; every other one stands alone."""
    gathered: dict[object, list[VerdictView]] = {}
    for place, view in enumerate(views):
        gathered.setdefault(place if view.strip else (view.verdict, view.sentence), []).append(view)
    return tuple(map(tuple, gathered.values()))


def undecided(groups: Iterable[VerdictGroup]) -> tuple[tuple[str, str, str], ...]:
    """Give the verdict and the sentence of what could not be decided, and for which comparisons they stand."""
    gathered = together(view for group in groups for view in group.views if not view.strip)
    return tuple((alike[0].verdict, alike[0].sentence, asked_of(alike)) for alike in gathered)


def asked_of(views: Iterable[VerdictView]) -> str:
    """Name comparisons, those by the same metrics against the same model together."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for view in views:
        metrics.setdefault((view.model, view.against), []).append(view.metric)
    models: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (model, against), names in metrics.items():
        models.setdefault((against, tuple(dict.fromkeys(names))), []).append(model)
    return "; ".join(
        f"{', '.join(named)} against {against} by {', '.join(names)}" for (against, names), named in models.items()
    )


def tone_of(verdict: str) -> str:
    """The tone of a verdict's words: only what improved is good, only what regressed is bad."""
    return {"improved": "good", "regressed": "bad"}.get(verdict, "plain")


def rest_of_sentence(verdict: str, sentence: str) -> str:
    """A verdict's sentence without the verdict's words at its head, which are shown apart."""
    rest = sentence
    if sentence.lower().startswith(verdict.lower()):
        rest = sentence[len(verdict) :].removeprefix(":").strip() or sentence
    return _HYPHEN_FOR_MINUS.sub(MINUS, rest)


def interval_text(interval: Sequence[float] | None, unit: str, *, of_change: bool) -> str:
    """Both ends of an interval, without unit."""
    if not interval or None in interval:
        return MISSING
    low, high = (change(end, unit) if of_change else level(end, unit) for end in interval)
    return f"{low} to {high}"


def _checkpoints(question: Row) -> Sequence[Row]:
    return question.get("checkpoints") or ()


def _common_scale(questions: Sequence[Row], unit: str) -> Scale:
    """The scale that holds all differences, intervals and detectable changes, in points for rates."""
    drawn = [end for question in questions for end in (question.get("interval") or ())]
    drawn += [question.get(key) for question in questions for key in ("difference", "detectable")]
    return scale_about_zero([value * 100 if unit == "rate" and value is not None else value for value in drawn])


def has_several(compare: Row, key: str) -> bool:
    """Whether the study's arms differ in `key`, so that it must be named."""
    return len({arm.get(key) for arm in compare.get("arms") or ()}) > 1


def _facts(question: Row, unit: str, confidence: str) -> tuple[tuple[str, str], ...]:
    of_change = unit_name(unit, of_change=True)
    facts = []
    # These two come first: a reader of the page finds them in the sentence and the drawing already.
    if question.get("difference") is not None:
        interval = interval_text(question.get("interval"), unit, of_change=True)
        facts.append(("difference", f"{change(question['difference'], unit)} {of_change}"))
        facts.append((f"{confidence} interval", interval))
    if question.get("fixed") is not None and not question.get("neutral"):
        # A loss or a partial score moves without a question being won or lost.
        names = ("fixed", "broke") if question.get("binary", True) else ("better on", "worse on")
        facts.append((names[0], count(question["fixed"])))
        facts.append((names[1], count(question.get("broke"))))
    if question.get("p_adjusted") is not None:
        facts.append(("adjusted p", p_value(question["p_adjusted"]).removeprefix("= ")))
    if question.get("p") is not None:
        facts.append(("p", p_value(question["p"]).removeprefix("= ")))
    if question.get("p_check") is not None:
        facts.append((question.get("p_check_method") or "check p", p_value(question["p_check"]).removeprefix("= ")))
    if question.get("detectable") is not None:
        facts.append(("detectable", f"{level(question['detectable'], unit)} {of_change}"))
    if question.get("margin") is not None:
        facts.append(("margin", f"{level(question['margin']['margin'], unit)} {of_change}"))
    if question.get("verdict") == "no detectable difference" and question.get("num_groups_needed") is not None:
        facts.append(("images that would detect it", count(question["num_groups_needed"])))
    if question.get("verdict") == "no detectable difference" and question.get("num_runs_needed") is not None:
        facts.append(("training runs that would detect it", count(question["num_runs_needed"])))
    if question.get("num_questions") is not None:
        facts.append(("questions", count(question["num_questions"])))
        facts.append(("images", count(question.get("num_images"))))
        if question.get("num_groups", question.get("num_images")) != question.get("num_images"):
            facts.append(("independent groups", count(question["num_groups"])))
    unparsed = question.get("unparsed") or {}
    if any(unparsed.values()):
        facts.append(("unparsed", f"{count(unparsed.get('model'))} against {count(unparsed.get('against'))}"))
    return tuple(facts)


def _strip(question: Row, scale: Scale, *, tone: str, y: float) -> Markup:
    if question.get("difference") is None:
        return Markup("")
    return (
        drawing.band(scale, question.get("detectable"), y=y)
        + drawing.grid(scale, zero=True)
        + drawing.whisker(scale, question["difference"], question.get("interval"), tone=tone, y=y)
    )


def by_people(compare: Row, kind: Literal["model", "difference"]) -> dict[tuple[str, ...], Row]:
    """Give what people's labels make of models' numbers or differences.

    Args:
        compare: the content of compare.json.
        kind: of which.

    Returns:
        Model, for a difference the one it is against, data, wording and metric to the entry.
    """
    keys = ("model", *(["against"] if kind == "difference" else []), "data", "template", "metric")
    entries = [entry for entry in compare.get("people") or () if entry["kind"] == kind]
    return {tuple(str(entry[key]) for key in keys): entry for entry in entries}


def beside_of(compare: Row) -> list[tuple[str, list[str]]]:
    """Give what stands beside the verdicts, without what people's labels make of numbers that have it with them."""
    numbers = {(entry["model"], entry["against"], entry["metric"]) for entry in compare.get("stated") or ()}
    kept = [
        entry
        for entry in compare.get("people") or ()
        if entry["kind"] != "model"
        and (entry["kind"] != "difference" or (entry["model"], entry["against"], entry["metric"]) not in numbers)
    ]
    return list(beside({**compare, "people": kept}))


def _view(
    question: Row,
    scale: Scale,
    *,
    unit: str,
    names: Mapping[str, str],
    people: Mapping[tuple[str, ...], Row],
    wording: bool,
    confidence: str,
    alpha: float,
    y: float,
    place: int = -1,
) -> VerdictView:
    asked = (question["model"], question["against"], question["data"], question.get("template") or "plain")
    verdict = str(question.get("verdict") or "cannot decide")
    tone = tone_of(verdict)
    sentence = str(question.get("sentence") or question.get("reason") or verdict)
    return VerdictView(
        model=model_in_words(question["model"]),
        against=model_in_words(question["against"]),
        metric=names.get(question["metric"], question["metric"]),
        data=question["data"],
        template=(question.get("template") or "plain") if wording else "",
        verdict=verdict,
        tone=tone,
        sentence=rest_of_sentence(verdict, sentence),
        difference=change(question.get("difference"), unit),
        interval=interval_text(question.get("interval"), unit, of_change=True),
        unit=unit_name(unit, of_change=True),
        strip=_strip(question, scale, tone=tone, y=y),
        facts=_facts(question, unit, confidence),
        p=p_value(question.get("p")).removeprefix("= "),
        p_adjusted=p_value(question.get("p_adjusted")).removeprefix("= "),
        fixed=MISSING if question.get("neutral") else count(question.get("fixed")),
        broke=MISSING if question.get("neutral") else count(question.get("broke")),
        checkpoints=tuple(
            _view(
                each,
                scale,
                unit=unit,
                names=names,
                people=people,
                wording=wording,
                confidence=confidence,
                alpha=alpha,
                y=_CHECKPOINT_MIDDLE,
            )
            for each in _checkpoints(question)
        ),
        people=str(people.get((*asked, question["metric"]), {}).get("sentence", "")),
        why=short_reason(question, alpha=alpha) if verdict == "borderline" else "",
        place=place,
    )


def _title(view: VerdictView, *, with_data: bool) -> str:
    parts = [view.metric, view.data if with_data else "", f"{view.template} wording" if view.template else ""]
    return ", ".join(part for part in parts if part)


def verdict_groups(
    compare: Row, questions: Iterable[Row], *, y: float, by_metric: bool = False
) -> tuple[VerdictGroup, ...]:
    """Prepare comparisons for reading, those with the same unit and direction on one axis.

    Args:
        compare: the content of compare.json.
        questions: its `stated` or `exploratory` list.
        y: pixels from a strip's top to its drawing.
        by_metric: whether each metric, evaluation set and wording has an axis of its own.

    Returns:
        The groups, in the order of their first question.
    """
    questions = list(questions)
    listed = (*(compare.get("stated") or ()), *(compare.get("exploratory") or ()))
    places = {id(question): place for place, question in enumerate(listed)}
    metrics = {question["metric"]: metric_facts(compare, question["metric"]) for question in questions}
    several_wordings, several_data = has_several(compare, "template"), has_several(compare, "data")
    people = by_people(compare, "difference")
    alpha = float(compare.get("alpha") or 0.05)
    confidence = f"{level(1 - alpha, 'rate').removesuffix('.0')}%"
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for question in questions:
        facts = metrics[question["metric"]]
        facts = facts._replace(neutral=bool(question.get("neutral", facts.neutral)))
        key: tuple[Any, ...] = (facts.unit, facts.direction)
        if by_metric:
            key += (question["metric"], question["data"], question.get("template"))
        grouped.setdefault(key, []).append(question)

    groups = []
    for (unit, direction, *_), members in grouped.items():
        shown = _common_scale([*members, *(each for question in members for each in _checkpoints(question))], unit)
        scale = Scale(shown.low / 100, shown.high / 100, shown.step / 100) if unit == "rate" else shown
        names = {name: facts.title for name, facts in metrics.items()}
        views = tuple(
            _view(
                question,
                scale,
                unit=unit,
                names=names,
                people=people,
                wording=several_wordings,
                confidence=confidence,
                alpha=alpha,
                y=y,
                place=places.get(id(question), -1),
            )
            for question in members
        )
        groups.append(
            VerdictGroup(
                title=_title(views[0], with_data=several_data),
                unit=unit_name(unit, of_change=True),
                direction=direction,
                against=views[0].against if len({view.against for view in views}) == 1 else "",
                won=all(question.get("binary", True) for question in members),
                views=views,
                axis=drawing.axis(shown, signed=True),
                grid=drawing.grid(scale, zero=True),
            )
        )
    return tuple(groups)
