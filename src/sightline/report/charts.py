"""Charts with two axes, as SVG for the page: quality against cost, and confidence against how often it is right.

Colours and strokes are classes of `figures.css`, as in `drawing`.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sightline.report.axes import Scale, scale_around, spread
from sightline.report.calibration import Calibration
from sightline.report.costs import Trade
from sightline.report.drawing import label_text

CHART_HEIGHT = 300

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 396, 34, 250
_NAMES, _LONGEST_NAME = 246, 25
_LINE_OF_TEXT = 14


def trade_chart(trade: Trade) -> Markup:
    """Draw quality against what it takes, each model named beside its dot.

    Returns:
        The content of an SVG of 420 by `CHART_HEIGHT` units.
    """
    parts = _frame(trade.x, trade.y, trade.x_title, trade.y_title, right=_NAMES - 20)
    heights = [_y(trade.y, spot.y) for spot in trade.spots]
    for spot, y, name_y in zip(trade.spots, heights, spread(heights, _LINE_OF_TEXT, _TOP, _BOTTOM), strict=True):
        x = _x(trade.x, spot.x, right=_NAMES - 20)
        if spot.low is not None and spot.high is not None:
            ends = f'y1="{_y(trade.y, spot.low):.1f}" y2="{_y(trade.y, spot.high):.1f}"'
            parts.append(Markup(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" {ends}/>'))
        parts.append(Markup(f'<polyline class="leader" points="{x:.1f},{y:.1f} {_NAMES - 4},{name_y:.1f}"/>'))
        parts.append(Markup(f'<circle class="dot level" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'))
        parts.append(label_text(_NAMES, round(name_y + 4, 1), _named(spot.model), kind="name small"))
    return Markup("").join(parts)


def _named(model: str) -> str:
    # Names of one step differ at their ends.
    return model if len(model) <= _LONGEST_NAME else f"{model[:8]}…{model[9 - _LONGEST_NAME :]}"


def calibration_chart(found: Calibration) -> Markup:
    """Draw the share of right answers over confidence; on the diagonal, confidence is to be believed.

    Returns:
        The content of an SVG of 420 by `CHART_HEIGHT` units.
    """
    scale = scale_around([0, 100], intervals=4)
    parts = _frame(scale, scale, "confidence (%)", "right answers (%)")
    ends = f'x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_TOP}"'
    parts.append(Markup(f'<line class="reference" {ends}/>'))
    places = [(_x(scale, 100 * one.confidence), _y(scale, 100 * one.right)) for one in found.bins]
    parts.append(Markup(f'<polyline class="validation" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'))
    parts += [Markup(f'<circle class="validation-dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>') for x, y in places]
    return Markup("").join(parts)


def _x(scale: Scale, value: float, *, right: int = _RIGHT) -> float:
    return _LEFT + (right - _LEFT) * scale.share(value)


def _y(scale: Scale, value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * scale.share(value)


def _frame(x: Scale, y: Scale, x_title: str, y_title: str, *, right: int = _RIGHT) -> list[Markup]:
    parts = [label_text(0, 14, y_title)]
    for tick in _few(y.ticks):
        place = round(_y(y, tick), 1)
        parts.append(Markup(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{place}" y2="{place}"/>'))
        parts.append(label_text(_LEFT - 7, round(place + 3.5, 1), y.label(tick), kind="tick", anchor="end"))
    for tick in _few(x.ticks):
        place = round(_x(x, tick, right=right), 1)
        parts.append(label_text(place, _BOTTOM + 18, x.label(tick), kind="tick", anchor="middle"))
    parts.append(label_text(_LEFT, _BOTTOM + 38, x_title))
    return parts


def _few(ticks: Sequence[float]) -> Sequence[float]:
    return ticks if len(ticks) <= 5 else ticks[::2]
