"""Sentences about phantom pictures, each with its truth, and the things that can be seen in them.

The sentences of a picture are a closed list: whatever a model writes can be looked up in it, so a share of
hallucinated sentences has perfect truth behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sightline.data.phantom_drawing import (
    COLOURS,
    DEVICES,
    LEVELS,
    SIDES,
    ChartFacts,
    ChestFacts,
    Facts,
    draw_facts,
    generator,
    pick,
    shuffled,
)
from sightline.data.phantom_kinds import NUMBERS, count_nodules, marks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence about a picture.

    Args:
        topic: what it decides; a false statement replaces a true one of its topic.
        text: the sentence.
        true: whether it holds.
    """

    topic: str
    text: str
    true: bool


def _chest_statements(facts: ChestFacts) -> list[Statement]:
    rows = [
        ("heart size", "The heart is enlarged.", facts.heart_size == "enlarged"),
        ("heart size", "The heart is of normal size.", facts.heart_size == "normal"),
    ]
    rows += [("heart side", f"The heart lies on the {side}.", facts.heart_side == side) for side in SIDES]
    for number in range(5):
        verb, noun = ("is", "nodule") if number == 1 else ("are", "nodules")
        text = f"There {verb} {NUMBERS[number]} {noun} in the lungs."
        rows.append(("number of nodules", text, len(facts.nodules) == number))
    for level in LEVELS:
        for side in SIDES:
            for size in ("small", "large"):
                exists = count_nodules(facts, level=level, side=side, size=size) > 0
                rows.append(("nodule", f"A {size} nodule lies in the {level} {side} lung.", exists))
    rows += [("effusion", f"There is an effusion on the {side}.", facts.effusion == side) for side in SIDES]
    rows.append(("effusion", "There is no effusion.", facts.effusion is None))
    rows.append(("tube", "There is a tube in the middle.", "tube" in facts.devices))
    for device in DEVICES:
        if device != "tube":
            rows += [(device, f"There is a {device} on the {s}.", facts.devices.get(device) == s) for s in SIDES]
        rows.append((device, f"There is no {device}.", device not in facts.devices))
    return [Statement(topic=topic, text=text, true=true) for topic, text, true in rows]


def _chart_statements(facts: ChartFacts) -> list[Statement]:
    heights = sorted(facts.bars, key=lambda bar: bar.height)
    noun, marks = ("bar", facts.bars) if facts.bars else ("line", facts.lines)
    rows = [
        ("type", "This is a bar chart.", bool(facts.bars)),
        ("type", "This is a line chart.", bool(facts.lines)),
    ]
    for number in range(1, 6):
        verb, plural = ("is", "") if number == 1 else ("are", "s")
        rows.append(("number", f"There {verb} {NUMBERS[number]} {noun}{plural}.", len(marks) == number))
    rows += [("mark", f"There is a {colour} {noun}.", f"{colour} {noun}" in marks_of(facts)) for colour in COLOURS]
    for degree, bar in (("tallest", heights[-1]), ("shortest", heights[0])) if heights else ():
        rows += [(degree, f"The {colour} bar is the {degree}.", colour == bar.colour) for colour in COLOURS]
    for line in facts.lines:
        rows.append((f"{line.colour} line", f"The {line.colour} line rises.", line.rises))
        rows.append((f"{line.colour} line", f"The {line.colour} line falls.", not line.rises))
    rows.append(("dashed line", "A dashed line crosses the chart.", facts.threshold))
    rows.append(("dashed line", "There is no dashed line.", not facts.threshold))
    return [Statement(topic=topic, text=text, true=true) for topic, text, true in rows]


def statements(facts: Facts) -> tuple[Statement, ...]:
    """List every sentence that descriptions use about a picture like this, true and false, in reading order."""
    return tuple(_chest_statements(facts) if isinstance(facts, ChestFacts) else _chart_statements(facts))


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(" .\n").split())


def is_true(sentence: str, facts: Facts) -> bool | None:
    """Look up whether a sentence of a description holds; None where phantom does not know the sentence."""
    for statement in statements(facts):
        if _plain(statement.text) == _plain(sentence):
            return statement.true
    return None


@lru_cache(maxsize=1)
def _closed_list() -> dict[str, bool]:
    """List every sentence about any picture, with whether it is one about charts."""
    drawn = [draw_facts(generator(0, "closed list", index)) for index in range(200)]
    return {_plain(s.text): isinstance(facts, ChartFacts) for facts in drawn for s in statements(facts)}


@lru_cache(maxsize=4096)
def _reference(text: str) -> frozenset[str]:
    return frozenset(_plain(sentence) for sentence in text.split(".") if sentence.strip())


def is_description(reference: str) -> bool:
    """Say whether a text is a whole description by phantom: every sentence is one of its own, and there are several."""
    said = _reference(reference)
    return len(said) > 1 and said <= _closed_list().keys()


def truth_of(sentence: str, reference: str) -> bool | None:
    """Say whether a sentence holds of the picture that a true description is about.

    Such a description says everything: what phantom can say and it does not is false. So is what is said of pictures of
    another kind, since it states things that are not there ("The heart is enlarged." of a chart); unless it denies one.

    Args:
        sentence: what a model said.
        reference: phantom's description of the picture, without false sentences.

    Returns:
        None where phantom does not know the sentence, or would not deny such a thing of such a picture.
    """
    said, known, closed = _plain(sentence), _reference(reference), _closed_list()
    if said in known or said not in closed:
        return True if said in known else None
    is_chart = any(closed[true] for true in known)
    denies = said.startswith(("there is no ", "there are no "))
    return None if denies and closed[said] != is_chart else False


def describe(facts: Facts, num_false: int, rng: np.random.Generator) -> tuple[Statement, ...]:
    """Say everything about a picture, with some sentences replaced by false ones of the same topic.

    Args:
        facts: what the picture shows.
        num_false: how many sentences to replace; fewer where the description has fewer.
        rng: decides which.

    Returns:
        The sentences in reading order, each once.
    """
    known = statements(facts)
    said = [statement for statement in known if statement.true]
    deniable = {statement.topic for statement in known if not statement.true}
    places = [place for place, statement in enumerate(said) if statement.topic in deniable]
    for place in sorted(shuffled(rng, places)[:num_false]):
        lies = [s for s in known if not s.true and s.topic == said[place].topic and s not in said]
        if lies:
            said[place] = pick(rng, lies)
    return tuple(said)


CHEST_THINGS = ("heart", "lung", "spine", "nodule", "effusion", *DEVICES)
CHART_THINGS = ("axis", "dashed line", *(f"{c} bar" for c in COLOURS), *(f"{c} line" for c in COLOURS))
THINGS = (*CHEST_THINGS, *CHART_THINGS)
"""What probes ask for, as POPE asks for the 80 objects of COCO."""


def things_in(facts: Facts) -> frozenset[str]:
    """Name everything that can be seen in a picture."""
    if isinstance(facts, ChartFacts):
        return frozenset({"axis", *marks_of(facts), *(["dashed line"] if facts.threshold else [])})
    findings = {"nodule": bool(facts.nodules), "effusion": facts.effusion is not None}
    return frozenset({"heart", "lung", "spine", *facts.devices, *(name for name, seen in findings.items() if seen)})


@lru_cache(maxsize=8)
def _population(seed: int) -> tuple[frozenset[str], ...]:
    """What 200 pictures of a stream of their own show: the frequencies that popular and adversarial probes need."""
    return tuple(things_in(draw_facts(generator(seed, "population", index))) for index in range(200))


def absent_things(facts: Facts, category: str, *, seed: int, rng: np.random.Generator) -> list[str]:
    """Order what a picture does not show, the first to be asked first.

    Args:
        facts: what the picture shows.
        category: "random"; "popular" (the most frequent things first); "adversarial" (those first that most often
            stand beside what the picture does show).
        seed: of the population whose frequencies count.
        rng: orders at random, and settles ties.

    Source: Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models", section 4.
    """
    present = things_in(facts)
    absent = shuffled(rng, [thing for thing in THINGS if thing not in present])
    if category == "random":
        return absent
    counts: Counter[str] = Counter()
    for things in _population(seed):
        weight = 1 if category == "popular" else len(things & present)
        counts.update({thing: weight for thing in things})
    return sorted(absent, key=lambda thing: -counts[thing])


def with_article(thing: str) -> str:
    """A thing with "a" or "an" before it."""
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def hallucination_ratio(sentences: Iterable[str], facts: Facts) -> float | None:
    """Give the share of false sentences among those phantom knows; None where it knows none.

    Args:
        sentences: what a model said about the picture.
        facts: what it shows.

    Returns:
        A rate in [0, 1].
    """
    truths = [truth for truth in (is_true(sentence, facts) for sentence in sentences) if truth is not None]
    return truths.count(False) / len(truths) if truths else None
