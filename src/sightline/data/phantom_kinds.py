"""The kinds of question about one phantom picture. Every answer is computed from the facts, never written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.data.phantom_drawing import (
    COLOURS,
    DEVICES,
    LEVELS,
    SIDES,
    ChartFacts,
    ChestFacts,
)

Case = tuple[dict[str, str], str]
"""The values that complete a wording, and the answer."""

NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionKind:
    """One kind of question.

    Args:
        name: its name in tags, e.g. "nodule_side".
        closed: whether the possible answers are given by the question.
        organ: what it is about.
        wordings: sentences with the names of a case's values in braces.
        cases: the facts of one picture (or of two) to the cases that can be asked; none where the kind does not fit.
        even: whether the pictures themselves make yes and no equally frequent.
    """

    name: str
    closed: bool
    organ: str
    wordings: tuple[str, ...]
    cases: Callable[..., Sequence[Case]]
    even: bool = False


def yes_or_no(truth: bool) -> str:
    """The answer to a closed question."""
    return "yes" if truth else "no"


def count_nodules(facts: ChestFacts, **wanted: str) -> int:
    """How many nodules have these properties."""
    return sum(all(getattr(nodule, key) == value for key, value in wanted.items()) for nodule in facts.nodules)


# ---------------------------------------------------------------- chest films


def _where(facts: ChestFacts) -> list[Case]:
    if len(facts.nodules) != 1:
        return []
    return [({}, f"{facts.nodules[0].level} {facts.nodules[0].side} lung")]


def _richer_lung(facts: ChestFacts) -> list[Case]:
    left, right = count_nodules(facts, side="left"), count_nodules(facts, side="right")
    return [({}, "left" if left > right else "right")] if left != right else []


CHEST_KINDS = (
    QuestionKind(
        name="nodule_present",
        closed=True,
        organ="lung",
        even=True,
        wordings=("Is there a nodule?", "Are there any nodules?", "Does the film show a nodule?"),
        cases=lambda f: [({}, yes_or_no(bool(f.nodules)))],
    ),
    QuestionKind(
        name="nodule_side",
        closed=True,
        organ="lung",
        wordings=("Is there a nodule in the {side} lung?", "Does the {side} lung contain a nodule?"),
        cases=lambda f: [({"side": side}, yes_or_no(count_nodules(f, side=side) > 0)) for side in SIDES],
    ),
    QuestionKind(
        name="nodule_place",
        closed=True,
        organ="lung",
        wordings=(
            "Is there a nodule in the {level} {side} lung?",
            "Is a nodule seen in the {level} part of the {side} lung?",
        ),
        cases=lambda f: [
            ({"side": side, "level": level}, yes_or_no(count_nodules(f, side=side, level=level) > 0))
            for side in SIDES
            for level in LEVELS
        ],
    ),
    QuestionKind(
        name="nodule_size",
        closed=True,
        organ="lung",
        wordings=("Is there a {size} nodule?", "Is any of the nodules {size}?"),
        cases=lambda f: [({"size": size}, yes_or_no(count_nodules(f, size=size) > 0)) for size in ("small", "large")],
    ),
    QuestionKind(
        name="nodule_lung",
        closed=True,
        organ="lung",
        wordings=(
            "Which lung has more nodules, the left or the right?",
            "Are more nodules on the left or on the right?",
        ),
        cases=_richer_lung,
    ),
    QuestionKind(
        name="heart_size",
        closed=True,
        organ="heart",
        wordings=("Is the heart {size}?", "Is the size of the heart {size}?"),
        cases=lambda f: [({"size": size}, yes_or_no(f.heart_size == size)) for size in ("normal", "enlarged")],
    ),
    QuestionKind(
        name="heart_side",
        closed=True,
        organ="heart",
        wordings=("Is the heart on the {side}?", "Does the heart lie on the {side} side?"),
        cases=lambda f: [({"side": side}, yes_or_no(f.heart_side == side)) for side in SIDES],
    ),
    QuestionKind(
        name="device_present",
        closed=True,
        organ="device",
        even=True,
        wordings=("Is there a {device}?", "Is a {device} seen?", "Does the patient have a {device}?"),
        cases=lambda f: [({"device": device}, yes_or_no(device in f.devices)) for device in DEVICES],
    ),
    QuestionKind(
        name="device_side",
        closed=True,
        organ="device",
        wordings=("Is the {device} on the {side}?", "Is the {device} on the {side} side?"),
        cases=lambda f: [
            ({"device": device, "side": side}, yes_or_no(f.devices[device] == side))
            for device in DEVICES
            for side in SIDES
            if f.devices.get(device) in SIDES
        ],
    ),
    QuestionKind(
        name="effusion_present",
        closed=True,
        organ="lung",
        even=True,
        wordings=("Is there an effusion?", "Is an effusion seen?", "Does the film show an effusion?"),
        cases=lambda f: [({}, yes_or_no(f.effusion is not None))],
    ),
    QuestionKind(
        name="effusion_side",
        closed=True,
        organ="lung",
        wordings=("Is there an effusion on the {side}?", "Is there fluid in the {side} lung?"),
        cases=lambda f: [({"side": side}, yes_or_no(f.effusion == side)) for side in SIDES],
    ),
    QuestionKind(
        name="nodule_count",
        closed=False,
        organ="lung",
        wordings=("How many nodules are there?", "What is the number of nodules?"),
        cases=lambda f: [({}, str(len(f.nodules)))],
    ),
    QuestionKind(
        name="nodule_where",
        closed=False,
        organ="lung",
        wordings=("Where is the nodule?", "In which part of the lungs is the nodule?"),
        cases=_where,
    ),
    QuestionKind(
        name="heart_where",
        closed=False,
        organ="heart",
        wordings=("On which side is the heart?", "Where is the heart?"),
        cases=lambda f: [({}, f.heart_side)],
    ),
    QuestionKind(
        name="effusion_where",
        closed=False,
        organ="lung",
        wordings=("Where is the effusion?", "Which lung holds fluid?"),
        cases=lambda f: [({}, f"{f.effusion} lung")] if f.effusion else [],
    ),
    QuestionKind(
        name="device_name",
        closed=False,
        organ="device",
        wordings=("Which device is seen?", "What device does the patient have?"),
        cases=lambda f: [({}, name) for name in f.devices] if len(f.devices) == 1 else [],
    ),
    QuestionKind(
        name="device_count",
        closed=False,
        organ="device",
        wordings=("How many devices are seen?", "What is the number of devices?"),
        cases=lambda f: [({}, str(len(f.devices)))],
    ),
)

# ---------------------------------------------------------------- charts


def _order(f: ChartFacts) -> list[Case]:
    colours = [bar.colour for bar in f.bars]
    pairs = [(a, b) for a in colours for b in colours if a != b]
    return [({"one": a, "other": b}, yes_or_no(colours.index(a) < colours.index(b))) for a, b in pairs]


def _taller(f: ChartFacts) -> list[Case]:
    return [
        (
            {"one": a.colour, "other": b.colour, "degree": degree},
            yes_or_no((a.height > b.height) == (degree == "taller")),
        )
        for a in f.bars
        for b in f.bars
        for degree in ("taller", "shorter")
        if a != b
    ]


def marks_of(f: ChartFacts) -> set[str]:
    """What stands in the chart, by its name."""
    return {f"{bar.colour} bar" for bar in f.bars} | {f"{line.colour} line" for line in f.lines}


def _extreme(f: ChartFacts) -> list[Case]:
    heights = sorted(f.bars, key=lambda bar: bar.height)
    return [({"degree": "tallest"}, heights[-1].colour), ({"degree": "shortest"}, heights[0].colour)] if heights else []


CHART_KINDS = (
    QuestionKind(
        name="chart_type",
        closed=True,
        organ="chart",
        wordings=("Is this a {type} chart?", "Does the picture show a {type} chart?"),
        cases=lambda f: [({"type": "bar"}, yes_or_no(bool(f.bars))), ({"type": "line"}, yes_or_no(bool(f.lines)))],
    ),
    QuestionKind(
        name="mark_present",
        closed=True,
        organ="chart",
        wordings=("Is there a {mark}?", "Does the chart have a {mark}?"),
        cases=lambda f: [
            ({"mark": mark}, yes_or_no(mark in marks_of(f)))
            for mark in (f"{c} {'bar' if f.bars else 'line'}" for c in COLOURS)
        ],
    ),
    QuestionKind(
        name="bar_taller",
        closed=True,
        organ="chart",
        wordings=("Is the {one} bar {degree} than the {other} bar?", "Is the {one} bar {degree} than the {other} one?"),
        cases=_taller,
    ),
    QuestionKind(
        name="bar_order",
        closed=True,
        organ="chart",
        wordings=("Is the {one} bar left of the {other} bar?", "Does the {one} bar stand before the {other} bar?"),
        cases=_order,
    ),
    QuestionKind(
        name="bar_threshold",
        closed=True,
        organ="chart",
        wordings=("Does the {one} bar reach the dashed line?", "Is the {one} bar higher than the dashed line?"),
        cases=lambda f: [({"one": bar.colour}, yes_or_no(bar.height > 4)) for bar in f.bars if f.threshold],
    ),
    QuestionKind(
        name="threshold_present",
        closed=True,
        organ="chart",
        even=True,
        wordings=("Is there a dashed line?", "Does the chart have a dashed line?"),
        cases=lambda f: [({}, yes_or_no(f.threshold))],
    ),
    QuestionKind(
        name="line_trend",
        closed=True,
        organ="chart",
        wordings=("Does the {one} line {verb}?", "Would you say that the {one} line {verb}s?"),
        cases=lambda f: [
            ({"one": line.colour, "verb": verb}, yes_or_no(line.rises == (verb == "rise")))
            for line in f.lines
            for verb in ("rise", "fall")
        ],
    ),
    QuestionKind(
        name="mark_count",
        closed=False,
        organ="chart",
        wordings=("How many {marks} are there?", "What is the number of {marks}?"),
        cases=lambda f: (
            [({"marks": "bars"}, str(len(f.bars)))] if f.bars else [({"marks": "lines"}, str(len(f.lines)))]
        ),
    ),
    QuestionKind(
        name="bar_extreme",
        closed=False,
        organ="chart",
        wordings=("Which bar is the {degree}?", "What colour is the {degree} bar?"),
        cases=_extreme,
    ),
    QuestionKind(
        name="line_direction",
        closed=False,
        organ="chart",
        wordings=("In which direction does the {one} line go?", "Where does the {one} line lead?"),
        cases=lambda f: [({"one": line.colour}, "up" if line.rises else "down") for line in f.lines],
    ),
)
