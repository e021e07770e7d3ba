"""Pieces of SVG: interval strips whose widths are shares of their box, and training curves.

Strips are written in percent of the box they stand in, so one drawing serves a phone, a page and a figure file.
Colours and strokes are classes of `figures.css`; nothing here knows a colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sightline.report.axes import Scale, finite, scale_around
from sightline.report.wording import clean, count

STRIP_INSET = 6.0
MOST_POINTS = 300

_WIDTH, _LEFT, _RIGHT = 420, 52, 408
_LOSS_TOP, _LOSS_BOTTOM = 26, 152
_RATE_TOP, _RATE_BOTTOM = 174, 206
CURVE_HEIGHT = 244
_LETTER = 6.6


def _text(value: object) -> Markup:
    return escape(clean(str(value)))


def place(scale: Scale, value: float) -> float:
    """Where a value lies in a strip, in percent of its width."""
    return round(STRIP_INSET + (100 - 2 * STRIP_INSET) * scale.share(value), 3)


def grid(scale: Scale, *, zero: bool) -> Markup:
    """The strip's vertical lines, top to bottom of the box: one at each tick, a stronger one at zero."""
    lines = []
    for tick in scale.ticks:
        kind = "zero" if zero and abs(tick) < scale.step / 2 else "grid"
        x = place(scale, tick)
        lines.append(f'<line class="{kind}" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>')
    return Markup("".join(lines))


def axis(scale: Scale, *, most: int = 5, signed: bool = False, y: int = 12) -> Markup:
    """The strip's tick labels: every second one where there are more than `most`, or they would touch."""
    ticks = scale.ticks
    # Zero stays where it is in the middle, the lower end where it is not.
    start = (len(ticks) // 2) % 2 if signed else 0
    chosen = ticks if len(ticks) <= most else ticks[start::2]
    labels = [(f"{place(scale, tick)}%", scale.label(tick, signed=signed)) for tick in chosen]
    return Markup("").join(label_text(x, y, label, kind="tick", anchor="middle") for x, label in labels)


def band(scale: Scale, half_width: float | None, *, y: float) -> Markup:
    """The changes too small for the test set to detect, as a band about zero, `y` pixels from the top."""
    if half_width is None or not math.isfinite(half_width):
        return Markup("")
    left, right = place(scale, -half_width), place(scale, half_width)
    return Markup(f'<rect class="band" x="{left}%" width="{round(right - left, 3)}%" y="{y - 9}" height="18"/>')


def reference_line(scale: Scale, value: float | None) -> Markup:
    """A dotted line at a value to measure the others by."""
    if value is None or not math.isfinite(value):
        return Markup("")
    x = place(scale, value)
    return Markup(f'<line class="reference" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>')


def whisker(scale: Scale, value: float | None, interval: Sequence[float] | None, *, tone: str, y: float) -> Markup:
    """A value and its interval; the dot's shape says what its colour says.

    Args:
        scale: of the strip.
        value: the estimate, or None to draw nothing.
        interval: its two ends, or None.
        tone: "good" (filled dot), "bad" (filled diamond) or "plain" (open dot).
        y: pixels from the top.
    """
    if value is None or not math.isfinite(value):
        return Markup("")
    parts = []
    if interval is not None and len(finite(interval)) == 2:
        left, right = (place(scale, end) for end in interval)
        parts.append(f'<line class="whisker {tone}" x1="{left}%" x2="{right}%" y1="{y}" y2="{y}"/>')
        for end in (left, right):
            parts.append(f'<line class="whisker {tone}" x1="{end}%" x2="{end}%" y1="{y - 4}" y2="{y + 4}"/>')
    x = place(scale, value)
    if tone == "bad":
        # A nested box is the only place where a shape can stand at a percentage.
        parts.append(
            f'<svg x="{x}%" y="{y}" width="1" height="1" overflow="visible">'
            f'<path class="dot bad" d="M0-6 6 0 0 6-6 0Z"/></svg>'
        )
    else:
        parts.append(f'<circle class="dot {tone}" cx="{x}%" cy="{y}" r="5"/>')
    return Markup("".join(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a model's metrics.jsonl gives to draw.

    Args:
        loss: (step, training loss), at most a few hundred points.
        num_averaged: steps behind each point of `loss`.
        validation: (step, validation loss).
        learning_rate: (step, learning rate).
        num_steps: the last step.
    """

    loss: tuple[tuple[float, float], ...]
    num_averaged: int
    validation: tuple[tuple[float, float], ...]
    learning_rate: tuple[tuple[float, float], ...]
    num_steps: int


def _points(rows: Sequence[Mapping[str, object]], key: str) -> list[tuple[float, float]]:
    points = []
    for row in rows:
        step, value = row.get("step"), row.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value):
            points.append((float(step), float(value)))
    return points


def _thinned(points: list[tuple[float, float]], size: int) -> tuple[tuple[float, float], ...]:
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups)


def curve_of(rows: Sequence[Mapping[str, object]]) -> Curve:
    """Prepare a model's training record for drawing; long ones are averaged over equal runs of steps."""
    loss, rate = _points(rows, "loss"), _points(rows, "learning_rate")
    validation = _points(rows, "validation_loss")
    size = max(1, math.ceil(len(loss) / MOST_POINTS))
    last = max((step for step, _ in [*loss, *rate, *validation]), default=0)
    return Curve(
        loss=_thinned(loss, size),
        num_averaged=size,
        validation=tuple(validation),
        learning_rate=_thinned(rate, max(1, math.ceil(len(rate) / MOST_POINTS))),
        num_steps=int(last),
    )


def loss_scale(curves: Sequence[Curve]) -> Scale:
    """One scale of loss for curves that are to be compared."""
    return scale_around([value for curve in curves for _, value in (*curve.loss, *curve.validation)], intervals=4)


def training_curve(curve: Curve, *, losses: Scale, num_steps: int) -> Markup:
    """Draw training loss, validation loss and learning rate over one axis of optimizer steps.

    Args:
        curve: what to draw.
        losses: the scale of loss, shared by models that are to be compared.
        num_steps: the right end of the step axis, shared likewise.

    Returns:
        The content of an SVG of 420 by `CURVE_HEIGHT` units.
    """
    steps = scale_around([0, max(1, num_steps)], intervals=5)
    right_end = max(1, num_steps)
    rates = scale_around([0, *(value for _, value in curve.learning_rate)], intervals=1)

    def x_of(step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, step / right_end)

    def path(points: Sequence[tuple[float, float]], scale: Scale, top: int, bottom: int) -> str:
        placed = ((x_of(step), bottom - (bottom - top) * scale.share(value)) for step, value in points)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)

    parts: list[str] = []
    for tick in losses.ticks:
        y = _LOSS_BOTTOM - (_LOSS_BOTTOM - _LOSS_TOP) * losses.share(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(label_text(_LEFT - 7, round(y + 3.5, 1), losses.label(tick), kind="tick", anchor="end"))
    for y in (_RATE_TOP, _RATE_BOTTOM):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
    for value, y in ((rates.high, _RATE_TOP), (0.0, _RATE_BOTTOM)):
        parts.append(label_text(_LEFT - 7, y + 3.5, _small_number(value), kind="tick", anchor="end"))
    for tick in steps.ticks:
        if tick <= right_end:
            parts.append(label_text(round(x_of(tick), 1), 222, count(tick), kind="tick", anchor="middle"))

    parts.append(label_text(_LEFT, 12, "loss (nats)"))
    parts.append(label_text(_LEFT, _RATE_TOP - 6, "learning rate"))
    parts.append(label_text(_RIGHT, 238, "optimizer step", anchor="end"))
    parts.append(_legend(curve))

    if curve.loss:
        parts.append(f'<polyline class="train" points="{path(curve.loss, losses, _LOSS_TOP, _LOSS_BOTTOM)}"/>')
    if curve.validation:
        points = path(curve.validation, losses, _LOSS_TOP, _LOSS_BOTTOM)
        parts.append(f'<polyline class="validation" points="{points}"/>')
        for point in points.split():
            x, y = point.split(",")
            parts.append(f'<circle class="validation-dot" cx="{x}" cy="{y}" r="2.6"/>')
    if curve.learning_rate:
        parts.append(f'<polyline class="rate" points="{path(curve.learning_rate, rates, _RATE_TOP, _RATE_BOTTOM)}"/>')
    return Markup("".join(parts))


def _legend(curve: Curve) -> str:
    """Line samples and their names, laid out from the right by the width of the words."""
    averaged = f"train, mean of {curve.num_averaged} steps" if curve.num_averaged > 1 else "train"
    parts, right = [], float(_RIGHT)
    for name, kind in (("validation", "validation"), (averaged, "train")):
        if kind == "validation" and not curve.validation:
            continue
        left = right - len(name) * _LETTER
        parts.append(label_text(round(left), 12, name))
        parts.append(f'<line class="{kind}" x1="{left - 24:.0f}" x2="{left - 6:.0f}" y1="8" y2="8"/>')
        if kind == "validation":
            parts.append(f'<circle class="validation-dot" cx="{left - 15:.0f}" cy="8" r="2.6"/>')
        right = left - 40
    return "".join(parts)


def _small_number(value: float) -> str:
    if value == 0 or value >= 0.01:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", "\u2212")


def label_text(x: float | str, y: float, text: object, *, kind: str = "label", anchor: str = "start") -> Markup:
    """A line of text in a figure, escaped."""
    return Markup(f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{_text(text)}</text>')
