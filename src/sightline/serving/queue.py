"""What reviewers are asked, and in which order: answers drawn at random, and those on which metrics disagree.

Everything is drawn from a fixed seed, so that a server started again asks the same, and all reviewers judge the same
answers. Models do not appear in an item: an answer that several models gave is judged once and counts for each.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sightline.report.reading import Row, StudyFiles
from sightline.scoring.metric import Metric
from sightline.serving.judgements import Task
from sightline.verdict.reviewers import answer_sha256, says_right

NUM_QUESTIONS = 100
"""Questions drawn at random, of which every different answer is labelled: 50 labels of a model correct its score."""

NUM_PICKED = 100
"""The most answers that are labelled because metrics disagree on them."""

NUM_PAIRS = 100
"""The most pairs of answers that are put side by side."""

BLOCK = 10
NUM_REPEATED = 2
"""Of each block of pairs this many come again after the next block, the other way round."""

EXACT_MATCH = "exact_match"

Question = tuple[str, str, str]
"""Data set, template and sample id."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be judged.

    Args:
        task: a label of one answer, or a preference between two.
        question: which question was answered.
        answers: hashes of the answers' texts, in the order shown.
        is_random: drawn at random; False where metrics disagree.
        is_repeat: shown before, the other way round.
    """

    task: Task
    question: Question
    answers: tuple[str, ...]
    is_random: bool = True
    is_repeat: bool = False

    def turned(self) -> Item:
        """The same two answers the other way round."""
        return replace(self, answers=self.answers[::-1])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models that a study compares on one data set in one wording."""

    model: str
    against: str
    data: str
    template: str


class Answers:
    """The first answer of every model to every question, by the hash of its text."""

    def __init__(self, files: StudyFiles) -> None:
        self.texts: dict[str, str] = {}
        """Hash to text."""
        self.of_model: dict[str, dict[Question, str]] = {}
        """Model to question to the hash of its answer."""
        for model, rows in files.answers.items():
            own = self.of_model.setdefault(model, {})
            for row in rows:
                if not row.get("k"):
                    text = answer_sha256(row["text"])
                    self.texts[text] = row["text"]
                    own[row["data"], row.get("template") or "plain", row["sample_id"]] = text


def pairs_of(compare: Row) -> list[Pair]:
    """List the comparisons of compare.json, checkpoint by checkpoint: the stated ones, or all where none was stated."""
    entries = compare.get("stated") or compare.get("exploratory") or ()
    single = [one for entry in entries for one in (entry.get("checkpoints") or [entry])]
    places = [Pair(one["model"], one["against"], one["data"], one.get("template") or "plain") for one in single]
    return list(dict.fromkeys(places))


def label_queue(files: StudyFiles, answers: Answers) -> list[Item]:
    """Queue single answers: after those to each question drawn at random comes one on which metrics disagree.

    Args:
        files: the study.
        answers: its answers.

    Returns:
        items in the order in which every reviewer gets them, so that whoever stops early leaves a random part.
    """
    pairs = pairs_of(files.compare)
    drawn = _drawn(pairs, answers)[:NUM_QUESTIONS]
    models = list(dict.fromkeys(name for pair in pairs for name in (pair.model, pair.against)))
    draw = random.Random("picked")
    chosen = set(drawn)
    picked = sorted(
        (question, text)
        for model in models
        for question in _disagreed(files, model)
        if question not in chosen and (text := answers.of_model.get(model, {}).get(question))
    )
    picked = list(dict.fromkeys(picked))
    draw.shuffle(picked)
    picked_items = iter([Item("label", question, (text,), is_random=False) for question, text in picked[:NUM_PICKED]])
    items: list[Item] = []
    for question in drawn:
        texts = sorted({own[question] for model in models if question in (own := answers.of_model.get(model, {}))})
        random.Random(f"order of {question}").shuffle(texts)
        items += [Item("label", question, (text,)) for text in texts]
        items += [item for item in [next(picked_items, None)] if item]
    return [*items, *picked_items]


def preference_queue(files: StudyFiles, answers: Answers, reviewer: str) -> list[Item]:
    """Queue pairs of different answers for one reviewer; each model stands left as often as right.

    Args:
        files: the study.
        answers: its answers.
        reviewer: whose queue; the pairs are the same for everybody, which answer is left is not.

    Returns:
        the pairs; some come a second time, the other way round.
    """
    pairs = pairs_of(files.compare)
    items: dict[tuple[Question, frozenset[str]], tuple[Item, Pair]] = {}
    for question in _drawn(pairs, answers):
        for pair in pairs:
            if (pair.data, pair.template) != question[:2]:
                continue
            ours, theirs = (answers.of_model.get(name, {}).get(question) for name in (pair.model, pair.against))
            if ours and theirs and ours != theirs:
                item = Item("preference", question, (ours, theirs))
                items.setdefault((question, frozenset(item.answers)), (item, pair))
        if len(items) >= NUM_PAIRS:
            break
    draw = random.Random(f"sides for {reviewer.casefold()}")
    turns: dict[Pair, list[bool]] = {}
    shown = []
    for item, pair in items.values():
        waiting = turns.setdefault(pair, [])
        if not waiting:
            waiting += draw.sample([False, True], 2)
        shown.append(item.turned() if waiting.pop() else item)
    return list(_with_repeats(shown))


def _with_repeats(shown: Sequence[Item]) -> Iterator[Item]:
    blocks = [shown[start : start + BLOCK] for start in range(0, len(shown), BLOCK)]
    due: list[Item] = []
    for number, block in enumerate(blocks):
        yield from block
        yield from due
        again = random.Random(f"repeats {number}").sample(range(len(block)), min(NUM_REPEATED, len(block)))
        due = [replace(block[place].turned(), is_repeat=True) for place in again]
    yield from due


def _drawn(pairs: Iterable[Pair], answers: Answers) -> list[Question]:
    """Every question that a model of the comparisons answered, in random order."""
    questions = {
        question
        for pair in pairs
        for name in (pair.model, pair.against)
        for question in answers.of_model.get(name, {})
        if question[:2] == (pair.data, pair.template)
    }
    order = sorted(questions)
    random.Random("questions").shuffle(order)
    return order


def _disagreed(files: StudyFiles, model: str) -> Iterator[Question]:
    """Questions whose answer exact match calls wrong and a judge right; without a judge: on which metrics disagree."""
    usable, judges = metrics_that_say_right(files), set(files.study.get("judges") or {})
    readings: dict[Question, dict[str, bool]] = {}
    for row in files.scores.get(model, ()):
        if row["metric"] in usable and (right := _reading(row)) is not None:
            question = (row["data"], row.get("template") or "plain", row["sample_id"])
            readings.setdefault(question, {})[row["metric"]] = right
    for question, read in readings.items():
        by_judges = [right for name, right in read.items() if name in judges]
        by_rules = {name: right for name, right in read.items() if name not in judges}
        if by_judges:
            strict = by_rules.get(EXACT_MATCH, next(iter(by_rules.values()), True))
            if any(by_judges) and not strict:
                yield question
        elif len(set(by_rules.values())) > 1:
            yield question


def metrics_that_say_right(files: StudyFiles) -> set[str]:
    """Name the study's metrics whose value of one answer tells right from wrong."""
    measured = {name: about for arm in files.compare.get("arms") or () for name, about in arm["metrics"].items()}
    facts = ("title", "kind", "unit", "higher_is_better", "neutral")
    made = [Metric(name=name, **{fact: about[fact] for fact in facts}) for name, about in measured.items()]
    return {metric.name for metric in made if says_right(metric)} - comparing_judges(files.study)


def comparing_judges(study: Mapping[str, Any]) -> set[str]:
    """Name the judges of a study, as its YAML has them, that do not say whether an answer is right."""
    judges = study.get("judges") or {}
    return {name for name, judge in judges.items() if judge["kind"] in ("pairwise", "shr")}


def _reading(row: Row) -> bool | None:
    if row["outcome"] == "unparsed":
        return False
    return row["value"] >= 0.5 if row["outcome"] == "scored" and row["value"] is not None else None
