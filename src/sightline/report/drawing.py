"""Pieces of SVG: interval strips whose widths are shares of their box, and training curves.

Strips are written in percent of the box they stand in, so one drawing serves a phone, a page and a figure file.
Colours and strokes are classes of `figures.css`; nothing here knows a colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from sightline.report.axes import Scale, finite, scale_around
from sightline.report.curves import Line, Panel, Training
from sightline.report.wording import clean, count

STRIP_INSET = 6.0
CURVE_WIDTH = 420

_LEFT, _RIGHT = 52, 408
_TITLE, _GAP, _STEPS = 24, 12, 28
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


def training_height(training: Training) -> int:
    """Units from the top of a training's drawing to its bottom."""
    return sum(_TITLE + _plot_height(panel) + _GAP for panel in training.panels) + _STEPS


def training_curves(training: Training) -> Markup:
    """Draw a model's training: its panels one under the other, over one axis of optimizer steps.

    Returns:
        The content of an SVG of `CURVE_WIDTH` by `training_height` units.
    """
    parts: list[str] = []
    top = 0

    def x_of(step: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, step / training.num_steps)

    for panel in training.panels:
        bottom = top + _TITLE + _plot_height(panel)
        parts += _panel(panel, x_of, top=top + _TITLE, bottom=bottom)
        for step in training.stages:
            parts.append(
                f'<line class="zero" x1="{x_of(step):.1f}" x2="{x_of(step):.1f}" y1="{top + _TITLE}" y2="{bottom}"/>'
            )
        top = bottom + _GAP
    for tick in scale_around([0, training.num_steps], intervals=5).ticks:
        if tick <= training.num_steps:
            parts.append(label_text(round(x_of(tick), 1), top + 4, count(tick), kind="tick", anchor="middle"))
    parts.append(label_text(_RIGHT, top + 22, "optimizer step", anchor="end"))
    return Markup("".join(parts))


def _plot_height(panel: Panel) -> int:
    return 126 if panel.is_tall else 52


def _panel(panel: Panel, x_of: Callable[[float], float], *, top: int, bottom: int) -> list[str]:
    scale, parts = panel.scale, [label_text(_LEFT, top - 10, panel.title), _legend(panel.lines, y=top - 10)]

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * scale.share(value)

    for tick in scale.ticks if panel.is_tall or len(scale.ticks) < 5 else scale.ticks[::2]:
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = _small_number(tick) if panel.key == "rate" else scale.label(tick)
        parts.append(label_text(_LEFT - 7, round(y + 3.5, 1), label, kind="tick", anchor="end"))
    for line in panel.lines:
        placed = [f"{x_of(step):.1f},{y_of(value):.1f}" for step, value in line.points]
        parts.append(f'<polyline class="{line.kind}" points="{" ".join(placed)}"/>')
        if line.kind == "validation":
            for point in placed:
                x, y = point.split(",")
                parts.append(f'<circle class="validation-dot" cx="{x}" cy="{y}" r="2.6"/>')
    return parts


def _legend(lines: Sequence[Line], *, y: float) -> str:
    """Line samples and their names, laid out from the right by the width of the words."""
    parts, right = [], float(_RIGHT)
    for line in reversed([line for line in lines if line.name]):
        left = right - len(line.name) * _LETTER
        parts.append(label_text(round(left), y, line.name))
        parts.append(f'<line class="{line.kind}" x1="{left - 24:.0f}" x2="{left - 6:.0f}" y1="{y - 4}" y2="{y - 4}"/>')
        if line.kind == "validation":
            parts.append(f'<circle class="validation-dot" cx="{left - 15:.0f}" cy="{y - 4}" r="2.6"/>')
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
