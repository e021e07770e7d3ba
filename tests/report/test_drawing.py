"""Scales and drawings show the numbers they are given."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.report.axes import Scale, scale_about_zero, scale_around
from sightline.report.drawing import (
    CURVE_HEIGHT,
    MOST_POINTS,
    STRIP_INSET,
    axis,
    curve_of,
    loss_scale,
    place,
    training_curve,
    whisker,
)

numbers = st.floats(min_value=-1e6, max_value=1e6, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_a_scale_holds_every_value_between_round_ends(values: list[float]):
    scale = scale_around(values)
    slack = 1e-6 * scale.step
    assert scale.low - slack <= min(values) <= max(values) <= scale.high + slack
    assert 2 <= len(scale.ticks) <= 12
    mantissa = scale.step / 10 ** math.floor(math.log10(scale.step) + 1e-9)
    assert any(mantissa == pytest.approx(m) for m in (1, 2, 2.5, 5))


@given(st.lists(numbers, min_size=1, max_size=8))
def test_zero_lies_in_the_middle(values: list[float]):
    scale = scale_about_zero(values)
    assert scale.share(0.0) == pytest.approx(0.5)
    assert all(abs(value) <= scale.high * (1 + 1e-6) for value in values)


def test_what_cannot_be_drawn_is_passed_over():
    scale = scale_around([None, math.nan, math.inf, 2.0, 4.0])
    assert (scale.low, scale.high) == (2.0, 4.0)
    assert whisker(scale, math.nan, [1.0, 2.0], tone="plain", y=10) == ""


def test_tick_labels_tell_neighbours_apart():
    for values in ([0, 1], [0, 0.004], [3.1, 3.2], [0, 70_000]):
        scale = scale_around(values)
        labels = [scale.label(tick) for tick in scale.ticks]
        assert len(set(labels)) == len(labels)
    assert [scale_about_zero([64]).label(t, signed=True) for t in (-25.0, 0.0, 25.0)] == ["−25", "0", "+25"]


def test_a_signed_axis_always_names_zero():
    for extent in range(1, 200):
        assert ">0<" in re.sub(r">0\.0+<", ">0<", axis(scale_about_zero([extent / 7]), signed=True))


def test_a_whisker_spans_its_interval():
    scale = Scale(0.0, 1.0, 0.25)
    drawing = whisker(scale, 0.5, [0.25, 0.75], tone="good", y=10)
    inner = 100 - 2 * STRIP_INSET
    assert f'x1="{STRIP_INSET + inner / 4}%" x2="{STRIP_INSET + 3 * inner / 4}%"' in drawing
    assert f'cx="{place(scale, 0.5)}%"' in drawing
    assert "circle" not in whisker(scale, 0.5, [0.25, 0.75], tone="bad", y=10), (
        "bad differs in shape, not only in colour"
    )


def _rows(num_steps: int) -> list[dict[str, object]]:
    return [{"step": step, "loss": 1 / step, "learning_rate": 1e-4} for step in range(1, num_steps + 1)]


def test_long_curves_are_averaged_without_losing_their_ends():
    curve = curve_of([*_rows(4_000), {"step": 4_000, "validation_loss": 0.5}])
    assert len(curve.loss) <= MOST_POINTS
    assert curve.loss[-1][0] == curve.num_steps == 4_000
    size = curve.num_averaged
    assert curve.loss[0] == (size, pytest.approx(math.fsum(1 / step for step in range(1, size + 1)) / size))
    assert curve.validation == ((4_000, 0.5),)


def test_a_loss_that_is_no_number_leaves_a_curve_that_can_be_drawn():
    rows = [*_rows(5), {"step": 6, "loss": math.nan, "learning_rate": 1e-4}]
    curve = curve_of(rows)
    drawing = training_curve(curve, losses=loss_scale([curve]), num_steps=6)
    assert "nan" not in drawing
    ElementTree.fromstring(f"<svg>{drawing}</svg>")


def test_a_curve_stays_in_its_frame():
    curve = curve_of([*_rows(50), {"step": 25, "validation_loss": 0.9}])
    drawing = training_curve(curve, losses=loss_scale([curve]), num_steps=50)
    points = [
        tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]+)"', drawing) for pair in line.split()
    ]
    assert len(points) == 50 + 50 + 1
    assert all(0 <= x <= 420 and 0 <= y <= CURVE_HEIGHT for x, y in points)


def test_drawings_say_what_their_axes_are():
    curve = curve_of([*_rows(50), {"step": 25, "validation_loss": 0.9}])
    drawing = training_curve(curve, losses=loss_scale([curve]), num_steps=50)
    for words in ("loss (nats)", "learning rate", "optimizer step", "train", "validation"):
        assert f">{words}<" in drawing
