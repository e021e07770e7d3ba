"""Side by side: every question with its reference, what each model said, and which comparison it moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sightline.records import Sample
from sightline.report.metric_facts import MetricFacts, metric_facts
from sightline.report.mistakes import kind_of
from sightline.report.reading import Row, StudyFiles
from sightline.report.wording import LONGEST_TEXT, level

MOST_ROWS = 5_000
MOST_CHARACTERS = 8_000_000
"""Of all answers on the page together; where there are more, each is cut sooner."""
LONGEST_ANSWERS = (LONGEST_TEXT, 1_000, 500, 250, 120)
MOST_PICTURES_A_ROW = 4
MOST_MODELS_APART = 6

LETTERS: Mapping[str, str] = {"right": "r", "wrong": "w", "unparsed": "u", "failed": "f", "": "-"}
"""What stands for a mark in a row's facts; "p" for every other, a score by degrees."""

_CELLS = ("tp", "fp", "fn", "tn")

_Key = tuple[str, str, str]
"""Data set, wording and sample id."""

Facts = Mapping[str, MetricFacts]
"""Metric to what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer, and who gave it.

    Args:
        models: the models that gave exactly this answer with this mark.
        text: the answer.
        mark: "right", "wrong", "unparsed", "failed", a score, or "" where no metric applies.
        tone: "good", "bad" or "plain".
        cut: whether the answer ended at max_new_tokens.
    """

    models: tuple[str, ...]
    text: str
    mark: str
    tone: str
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRow:
    """One question of an evaluation set.

    Args:
        id: the sample's id.
        data: the evaluation set.
        template: the question's wording.
        sample: the row itself.
        said: the answers, in the models' order.
        flips: index of a comparison to "fixed" or "broke".
        num_right: how many models' answers are marked right.
        kinds: model to the kind of its mistake, see `mistakes.KINDS`; models without an answer are not in it.
        marks: metric to one of `LETTERS` per model of the study.
    """

    id: str
    data: str
    template: str
    sample: Sample
    said: tuple[Said, ...]
    flips: Mapping[int, str]
    num_right: int
    kinds: Mapping[str, str]
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Every question with an answer, and how many of them a page shows.

    Args:
        comparisons: every comparison in the order `SideRow.flips` counts them: the stated ones, then the others.
        num_stated: how many of them were stated beforehand.
        models: those that answered.
        metrics: those by which single answers are marked.
        rows: all of them; fixed and broken ones first.
        num_shown: how many of them a page shows, from the first.
        longest: characters of an answer that a page shows.
    """

    comparisons: tuple[Row, ...]
    num_stated: int
    models: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[SideRow, ...]
    num_shown: int
    longest: int

    @property
    def shown(self) -> tuple[SideRow, ...]:
        """The rows that a page shows."""
        return self.rows[: self.num_shown]


def metric_order(compare: Row) -> list[str]:
    """The metrics by which single answers are marked: those of the stated questions first."""
    names = [question["metric"] for question in compare.get("stated") or ()]
    names += [name for arm in compare.get("arms") or () for name in arm["metrics"]]
    return list(dict.fromkeys(names))


def _mark(scores: Mapping[str, Row], metrics: Sequence[str], facts: Facts) -> tuple[str, str]:
    """Put one answer's mark into a word: by the first metric that applies, those that judge before the others."""
    applying = [name for name in metrics if name in scores and scores[name].get("outcome") != "not_applicable"]
    if not applying:
        return "", "plain"
    name = next((name for name in applying if facts[name].is_right_or_wrong), applying[0])
    score, unit, judges = scores[name], facts[name].unit, facts[name].is_right_or_wrong
    value = score.get("value")
    if score.get("outcome") != "scored":
        return str(score.get("outcome") or ""), "plain" if value is None else "bad"
    if value is None and judges and set(_CELLS).intersection(score.get("parts") or ()):
        value = sum(score["parts"].get(cell, 0) for cell in ("tp", "tn"))  # of a question that a ratio counts
    if value is None:
        return "scored", "plain"
    if judges and value in (0, 1):
        return ("right", "good") if value == 1 else ("wrong", "bad")
    return f"{level(value, unit)}{'%' if unit == 'rate' else f' {unit}'}", "plain"


def _flips(comparisons: Iterable[Row], facts: Facts) -> dict[tuple[str, str, str], dict[int, str]]:
    flips: dict[tuple[str, str, str], dict[int, str]] = {}
    for index, question in enumerate(comparisons):
        # A loss moves on every question, and a yes is no gain: neither fixes or breaks anything.
        if question["metric"] in facts and not facts[question["metric"]].is_right_or_wrong:
            continue
        for status in ("fixed", "broke"):
            for sample_id in question.get(f"{status}_ids") or ():
                key = (question["data"], question.get("template") or "plain", sample_id)
                flips.setdefault(key, {})[index] = status
    return flips


def _together(said: Sequence[Said]) -> tuple[Said, ...]:
    """Gather models that said the same, once there are too many to list one by one."""
    if len(said) <= MOST_MODELS_APART:
        return tuple(said)
    groups: dict[tuple[str, str, bool], list[Said]] = {}
    for one in said:
        groups.setdefault((one.text, one.mark, one.cut), []).append(one)
    return tuple(
        Said(
            models=tuple(model for one in group for model in one.models),
            text=group[0].text,
            mark=group[0].mark,
            tone=group[0].tone,
            cut=group[0].cut,
        )
        for group in groups.values()
    )


def _keys(files: StudyFiles, answered: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """All questions with an answer, in the order of the data, wording by wording."""
    present = set(answered)
    templates = list(dict.fromkeys(template for _, template, _ in sorted(present)))
    for data, samples in files.samples.items():
        for template in templates:
            yield from ((data, template, sample_id) for sample_id in samples if (data, template, sample_id) in present)


def side_by_side(files: StudyFiles, *, most_rows: int = MOST_ROWS) -> SideBySide:
    """Gather what each model said to each question.

    Args:
        files: a study directory's content.
        most_rows: rows that a page shows; those that a stated comparison fixed or broke come first.

    Returns:
        The rows, with the first answer (k = 0) of every model.
    """
    stated = tuple(files.compare.get("stated") or ())
    comparisons = stated + tuple(files.compare.get("exploratory") or ())
    metrics = metric_order(files.compare)
    facts = {name: metric_facts(files.compare, name) for name in metrics}
    flips = _flips(comparisons, facts)

    answers: dict[_Key, dict[str, Row]] = {}
    for model, rows in files.answers.items():
        for row in rows:
            if not row.get("k"):
                key = (row["data"], row.get("template") or "plain", row["sample_id"])
                answers.setdefault(key, {})[model] = row
    scores: dict[tuple[str, *_Key], dict[str, Row]] = {}
    for model, rows in files.scores.items():
        for row in rows:
            key = (str(row.get("data")), row.get("template") or "plain", row["sample_id"])
            if key in answers:
                scores.setdefault((model, *key), {}).setdefault(row["metric"], row)

    def rank(key: _Key) -> int:
        moved = flips.get(key, {})
        return 0 if any(index < len(stated) for index in moved) else 1 if moved else 2

    models = tuple(files.answers)
    rows = tuple(
        _row(files, key, models, answers[key], scores, metrics, facts, flips.get(key, {}))
        for key in sorted(_keys(files, answers), key=rank)
    )
    longest = _longest(rows[:most_rows])
    return SideBySide(
        comparisons=comparisons,
        num_stated=len(stated),
        models=models,
        metrics=tuple(name for name in metrics if any(letter != "-" for row in rows for letter in row.marks[name])),
        rows=rows,
        num_shown=min(len(rows), most_rows),
        longest=longest,
    )


def _row(
    files: StudyFiles,
    key: _Key,
    models: Sequence[str],
    answers: Mapping[str, Row],
    scores: Mapping[tuple[str, *_Key], Mapping[str, Row]],
    metrics: Sequence[str],
    facts: Facts,
    flips: Mapping[int, str],
) -> SideRow:
    data, template, sample_id = key
    sample = files.samples[data][sample_id]
    said, kinds = [], {}
    marks = {name: "" for name in metrics}
    for model in models:
        by_metric = scores.get((model, *key), {})
        for name in metrics:
            mark, _ = _mark(by_metric, [name], facts)
            marks[name] += LETTERS.get(mark, "p")
        if model in answers:
            answer = answers[model]
            mark, tone = _mark(by_metric, metrics, facts)
            cut = answer.get("finish_reason") == "length"
            said.append(Said(models=(model,), text=str(answer["text"]), mark=mark, tone=tone, cut=cut))
            kinds[model] = kind_of(sample, answer, mark)
    return SideRow(
        id=sample_id,
        data=data,
        template=template,
        sample=sample,
        said=_together(said),
        flips=flips,
        num_right=sum(one.mark == "right" for one in said),
        kinds=kinds,
        marks=marks,
    )


def _longest(rows: Sequence[SideRow]) -> int:
    """Cut answers only as far as a page of bearable size asks for."""
    lengths = [len(one.text) for row in rows for one in row.said]
    fitting = (most for most in LONGEST_ANSWERS if sum(min(length, most) for length in lengths) <= MOST_CHARACTERS)
    return next(fitting, LONGEST_ANSWERS[-1])
