"""Questions about phantom pictures: those about two pictures, and how a picture's questions are chosen.

A kind lists its cases in a picture: the values that complete its wording, and the answer that follows. A yes/no kind
that has cases of both answers picks the answer first, so that no wording is worth guessing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sightline.data.phantom_drawing import DEVICES, ChestFacts, Facts, pick, shuffled
from sightline.data.phantom_kinds import CHART_KINDS, CHEST_KINDS, Case, QuestionKind, yes_or_no

View = tuple[Facts, ...]
"""The facts of the pictures of one prompt, in order."""

FOREIGN = 0.03
"""How often a yes/no kind with only one possible answer in a picture is asked: seldom, to keep yes and no even."""

# ---------------------------------------------------------------- two pictures in one prompt

ORDERS = (("first", "second"), ("second", "first"))


def _size(f: Facts) -> int:
    return len(f.nodules) if isinstance(f, ChestFacts) else len(f.bars) + len(f.lines)


def _things(f: Facts) -> str:
    return "nodules" if isinstance(f, ChestFacts) else "bars" if f.bars else "lines"


def _comparable(first: Facts, second: Facts) -> str | None:
    """What both pictures show and can be counted in each."""
    return _things(first) if _things(first) == _things(second) else None


def _more(first: Facts, second: Facts) -> list[Case]:
    things, difference = _comparable(first, second), _size(first) - _size(second)
    if things is None:
        return []
    return [
        (
            {"one": one, "other": other, "things": things},
            yes_or_no(difference > 0 if one == "first" else difference < 0),
        )
        for one, other in ORDERS
    ]


def _richer_picture(first: Facts, second: Facts) -> list[Case]:
    things = _comparable(first, second)
    if things is None or _size(first) == _size(second):
        return []
    return [({"things": things}, "first" if _size(first) > _size(second) else "second")]


def _hearts(first: Facts, second: Facts) -> list[Case]:
    if not (isinstance(first, ChestFacts) and isinstance(second, ChestFacts)):
        return []
    sizes = [facts.heart_size == "enlarged" for facts in (first, second)]
    return [
        ({"one": "first", "other": "second"}, yes_or_no(sizes[0] > sizes[1])),
        ({"one": "second", "other": "first"}, yes_or_no(sizes[1] > sizes[0])),
    ]


def _both_show(first: Facts, second: Facts) -> list[Case]:
    if not (isinstance(first, ChestFacts) and isinstance(second, ChestFacts)):
        return []
    return [({"device": device}, yes_or_no(device in first.devices and device in second.devices)) for device in DEVICES]


def _same_side(first: Facts, second: Facts) -> list[Case]:
    if not (isinstance(first, ChestFacts) and isinstance(second, ChestFacts)):
        return []
    return [({}, yes_or_no(first.heart_side == second.heart_side))]


def _same_type(first: Facts, second: Facts) -> list[Case]:
    if isinstance(first, ChestFacts) or isinstance(second, ChestFacts):
        return []
    return [({}, yes_or_no(bool(first.bars) == bool(second.bars)))]


def _together(first: Facts, second: Facts) -> list[Case]:
    things = _comparable(first, second)
    return [({"things": things}, str(_size(first) + _size(second)))] if things else []


MULTI_KINDS = (
    QuestionKind(
        name="multi_more",
        closed=True,
        organ="pair",
        wordings=(
            "Are there more {things} in the {one} picture than in the {other}?",
            "Does the {one} picture show more {things} than the {other}?",
        ),
        cases=_more,
    ),
    QuestionKind(
        name="multi_which",
        closed=True,
        organ="pair",
        wordings=(
            "Which picture has more {things}, the first or the second?",
            "Are there more {things} in the first or in the second picture?",
        ),
        cases=_richer_picture,
    ),
    QuestionKind(
        name="multi_heart",
        closed=True,
        organ="pair",
        wordings=(
            "Is the heart in the {one} picture larger than in the {other}?",
            "Is the {one} heart larger than the {other}?",
        ),
        cases=_hearts,
    ),
    QuestionKind(
        name="multi_same_side",
        closed=True,
        organ="pair",
        even=True,
        wordings=("Is the heart on the same side in both pictures?", "Do both hearts lie on the same side?"),
        cases=_same_side,
    ),
    QuestionKind(
        name="multi_device",
        closed=True,
        organ="pair",
        wordings=("Is there a {device} in both pictures?", "Do both pictures show a {device}?"),
        cases=_both_show,
    ),
    QuestionKind(
        name="multi_type",
        closed=True,
        organ="pair",
        even=True,
        wordings=("Are both charts of the same type?", "Do the two pictures show the same type of chart?"),
        cases=_same_type,
    ),
    QuestionKind(
        name="multi_sum",
        closed=False,
        organ="pair",
        wordings=(
            "How many {things} are there in both pictures together?",
            "What is the number of {things} in the two pictures?",
        ),
        cases=_together,
    ),
)
ALL_KINDS = {kind.name: kind for kind in (*CHEST_KINDS, *CHART_KINDS, *MULTI_KINDS)}


def kinds_for(view: View) -> tuple[QuestionKind, ...]:
    """The kinds of question that may fit one picture, or two in one prompt."""
    if len(view) == 2:
        return MULTI_KINDS
    return CHEST_KINDS if isinstance(view[0], ChestFacts) else CHART_KINDS


def _ask(kind: QuestionKind, view: View, used: set[str], rng: np.random.Generator) -> tuple[str, str] | None:
    cases = [case for case in kind.cases(*view) if not used.intersection(w.format(**case[0]) for w in kind.wordings)]
    if not cases:
        return None
    answers = sorted({answer for _, answer in cases})
    if kind.closed and not kind.even and set(answers) <= {"yes", "no"}:
        if len(answers) == 1 and rng.random() > FOREIGN:
            return None
        wanted = pick(rng, answers)
        cases = [case for case in cases if case[1] == wanted]
    values, answer = pick(rng, cases)
    return pick(rng, kind.wordings).format(**values), answer


def ask(
    view: View, num_questions: int, rng: np.random.Generator, kinds: Iterable[QuestionKind] | None = None
) -> list[tuple[QuestionKind, str, str]]:
    """Ask several different questions about the same pictures.

    Args:
        view: the facts of the pictures.
        num_questions: how many; fewer where the pictures offer fewer.
        rng: decides which kinds, cases and wordings.
        kinds: the kinds to choose from, with wordings of their own if need be; all by default.

    Returns:
        Kind, question and answer, each question once. A kind comes twice only when all had their turn.
    """
    names = {kind.name for kind in kinds_for(view)}
    fitting = [kind for kind in (kinds_for(view) if kinds is None else kinds) if kind.name in names]
    rows: list[tuple[QuestionKind, str, str]] = []
    used: set[str] = set()
    for _ in range(3):
        for kind in shuffled(rng, fitting):
            asked = _ask(kind, view, used, rng) if len(rows) < num_questions else None
            if asked is not None:
                rows.append((kind, *asked))
                used.add(asked[0])
    return rows
