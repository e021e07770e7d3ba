"""Training curves: what each model's metrics.jsonl gives to draw, as values that page and figures share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sightline.report.axes import Scale, scale_around
from sightline.report.reading import Row
from sightline.report.wording import count, rounded

MOST_POINTS = 300

Kind = Literal["train", "validation", "chosen", "rejected"]
"""How a line looks: what is trained on, what is held out; or the two answers of a pair."""

Points = tuple[tuple[float, float], ...]
"""(optimizer step, value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a panel.

    Args:
        name: for the legend; "" where the panel's title says it all.
        kind: how it looks.
        points: at most a few hundred, averaged over equal runs of steps.
    """

    name: str
    kind: Kind
    points: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What shares an axis.

    Args:
        key: its name.
        title: what is drawn, with its unit.
        lines: one or two.
        scale: shared by all models of a step.
        is_tall: whether it is the one that is read most closely.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    scale: Scale
    is_tall: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One model's training.

    Args:
        model: its name.
        panels: over one axis of optimizer steps.
        num_steps: where that axis ends; shared by all models of a step.
        stages: the steps after which a curriculum's next stage began.
        summary: one line of numbers.
    """

    model: str
    panels: tuple[Panel, ...]
    num_steps: int
    stages: tuple[float, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A panel as it would be: key, title, (key in metrics.jsonl, name, kind), whether 0 is shown, steps of its axis."""

    key: str
    title: str
    lines: tuple[tuple[str, str, Kind], ...]
    with_zero: bool = False
    intervals: int = 2


_PAIR: tuple[tuple[str, Kind], ...] = (("chosen", "chosen"), ("rejected", "rejected"))


def _of_pairs(key: str, title: str, *, with_zero: bool = False) -> _Wanted:
    return _Wanted(key, title, tuple((f"{key}/{name}", name, kind) for name, kind in _PAIR), with_zero=with_zero)


_LOSS: tuple[tuple[str, str, Kind], ...] = (("loss", "train", "train"), ("validation_loss", "validation", "validation"))
_PANELS = (
    _Wanted("loss", "loss", _LOSS, intervals=4),
    _of_pairs("rewards", "reward (β × log-ratio)"),
    _Wanted("margins", "reward margin", (("rewards/margins", "", "train"),), with_zero=True),
    _Wanted("accuracies", "share of pairs in the right order", (("rewards/accuracies", "", "train"),), with_zero=True),
    _of_pairs("logps", "log-probability (nats)"),
    _of_pairs("tokens", "length of an answer (tokens)", with_zero=True),
    _Wanted("kl", "divergence from the reference (nats)", (("kl", "", "train"),), with_zero=True),
    _Wanted("rate", "learning rate", (("learning_rate", "", "train"),), with_zero=True, intervals=1),
    _Wanted("norm", "gradient norm", (("grad_norm", "", "train"),), with_zero=True),
)


def trainings(curves: Mapping[str, Sequence[Row]]) -> tuple[Training, ...]:
    """Prepare every model's training record for drawing; members and seeds of one step share their scales.

    Args:
        curves: model name to the rows of its metrics.jsonl.

    Returns:
        One per model that took a step, in the order given.
    """
    lines = {model: _lines(rows) for model, rows in curves.items()}
    return tuple(
        _training(model, lines[model], rows, [lines[name] for name in lines if _step_of(name) == _step_of(model)])
        for model, rows in curves.items()
        if lines[model]
    )


def _training(
    model: str,
    own: Mapping[str, tuple[Line, ...]],
    rows: Sequence[Row],
    peers: Sequence[Mapping[str, tuple[Line, ...]]],
) -> Training:
    panels = []
    for wanted in _PANELS:
        if wanted.key not in own:
            continue
        drawn = [value for peer in peers for line in peer.get(wanted.key, ()) for _, value in line.points]
        if wanted.with_zero:
            drawn += [0.0] if wanted.key != "accuracies" else [0.0, 1.0]
        unit = f" (nats per {'pair' if 'rewards' in own else 'token'})" if wanted.key == "loss" else ""
        panels.append(
            Panel(
                key=wanted.key,
                title=wanted.title + unit,
                lines=own[wanted.key],
                scale=scale_around(drawn, intervals=wanted.intervals),
                is_tall=wanted.key == "loss",
            )
        )
    ends = [line.points[-1][0] for peer in peers for lines in peer.values() for line in lines]
    return Training(
        model=model,
        panels=tuple(panels),
        num_steps=int(max(1, *ends)),
        stages=_stages(rows),
        summary=_summary(rows, own),
    )


def _lines(rows: Sequence[Row]) -> dict[str, tuple[Line, ...]]:
    found = {}
    for wanted in _PANELS:
        lines = []
        for key, name, kind in wanted.lines:
            if points := _points(rows, key):
                lines.append(Line(name=name, kind=kind, points=_thinned(points, _points_in_one(len(points)))))
        if lines:
            found[wanted.key] = tuple(lines)
    return found


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    pairs = ((row.get("step"), row.get(key)) for row in rows)
    return [(float(step), float(value)) for step, value in pairs if _is_number(step) and _is_number(value)]  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _points_in_one(num_points: int) -> int:
    return max(1, math.ceil(num_points / MOST_POINTS))


def _thinned(points: list[tuple[float, float]], size: int) -> Points:
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups)


def _stages(rows: Sequence[Row]) -> tuple[float, ...]:
    staged = [(float(row["step"]), row["stage"]) for row in rows if "stage" in row and _is_number(row.get("step"))]
    return tuple(before[0] for before, after in itertools.pairwise(staged) if before[1] != after[1])


def _summary(rows: Sequence[Row], lines: Mapping[str, tuple[Line, ...]]) -> str:
    last = int(max(line.points[-1][0] for each in lines.values() for line in each))
    parts = [f"{count(last)} steps"]
    if validation := _points(rows, "validation_loss"):
        step, best = min(validation, key=lambda point: point[1])
        parts.append(f"validation loss lowest at step {count(step)}: {rounded(best, 3)}")
    if accuracies := _points(rows, "rewards/accuracies"):
        parts.append(f"{rounded(accuracies[-1][1], 1, shift=2)}% of the last step's pairs in the right order")
    stopped = next((str(row["stopped"]) for row in rows if row.get("stopped")), "")
    if (size := _points_in_one(len(_points(rows, "loss")))) > 1:
        parts.append(f"drawn as means of {size} steps")
    return ", ".join(parts + [f"stopped: {stopped}"] * bool(stopped))


def _step_of(model: str) -> str:
    return model.split("@")[0].split(".")[0]
