"""Scales and drawings show the numbers they are given."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.report.axes import Scale, scale_about_zero, scale_around, spread
from sightline.report.drawing import STRIP_INSET, axis, place, whisker

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


def test_a_tick_says_where_it_is():
    for values in ([0, 1], [0, 0.01], [0, 10], [2, 2.5]):
        scale = scale_around(values)
        assert [float(scale.label(tick)) for tick in scale.ticks] == pytest.approx(list(scale.ticks), abs=1e-9)


@given(st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=8))
def test_names_are_spread_without_touching_or_changing_order(places: list[float]):
    moved = spread(places, 10, 0, 100)
    ordered = [moved[index] for index in sorted(range(len(places)), key=lambda index: places[index])]
    assert all(after - before >= 10 - 1e-9 for before, after in itertools.pairwise(ordered))
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in moved)
