"""Training curves: what is drawn of metrics.jsonl, for supervised training and for preferences."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from sightline.report.curves import MOST_POINTS, Training, trainings
from sightline.report.drawing import CURVE_WIDTH, training_curves, training_height


def _rows(num_steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "loss": 1 / step, "learning_rate": 1e-4} for step in range(1, num_steps + 1)]


def _pairs(num_steps: int) -> list[dict[str, Any]]:
    told = {"rewards/chosen": 0.2, "rewards/rejected": -0.3, "rewards/margins": 0.5, "rewards/accuracies": 0.75}
    told |= {"logps/chosen": -12.0, "logps/rejected": -15.0, "tokens/chosen": 9.0, "tokens/rejected": 11.0, "kl": 0.1}
    return [{**row, **told} for row in _rows(num_steps)]


def _only(rows: list[dict[str, Any]]) -> Training:
    (training,) = trainings({"sft": rows})
    return training


def test_long_curves_are_averaged_without_losing_their_ends():
    training = _only([*_rows(4_000), {"step": 4_000, "validation_loss": 0.5}])
    train, validation = training.panels[0].lines
    assert len(train.points) <= MOST_POINTS
    assert train.points[-1][0] == training.num_steps == 4_000
    size = math.ceil(4_000 / MOST_POINTS)
    assert train.points[0] == (size, pytest.approx(math.fsum(1 / step for step in range(1, size + 1)) / size))
    assert validation.points == ((4_000, 0.5),)
    assert f"drawn as means of {size} steps" in training.summary


def test_preferences_show_what_their_training_tells():
    training = _only(_pairs(20))
    keys = [panel.key for panel in training.panels]
    assert keys == ["loss", "rewards", "margins", "accuracies", "logps", "tokens", "kl", "rate"]
    by_key = {panel.key: panel for panel in training.panels}
    assert by_key["loss"].title == "loss (nats per pair)"
    for key, (chosen, rejected) in {"rewards": (0.2, -0.3), "logps": (-12, -15), "tokens": (9, 11)}.items():
        first, second = by_key[key].lines
        assert (first.name, first.kind, first.points[0][1]) == ("chosen", "chosen", chosen)
        assert (second.name, second.kind, second.points[0][1]) == ("rejected", "rejected", rejected)
    assert (by_key["accuracies"].scale.low, by_key["accuracies"].scale.high) == (0.0, 1.0)
    assert "75.0% of the last step's pairs in the right order" in training.summary


def test_supervised_training_has_no_empty_panel():
    assert [panel.key for panel in _only(_rows(5)).panels] == ["loss", "rate"]
    assert trainings({"nothing": []}) == ()


def test_members_and_seeds_of_a_step_share_their_scales():
    steep = [{"step": 1, "loss": 9.0}, {"step": 200, "loss": 0.1}]
    flat, other = [{"step": 1, "loss": 0.2}, {"step": 10, "loss": 0.1}], [{"step": 1, "loss": 0.3}]
    one, two, apart = trainings({"sft.a@0": steep, "sft.b@1": flat, "dpo": other})
    assert one.panels[0].scale == two.panels[0].scale != apart.panels[0].scale
    assert one.num_steps == two.num_steps == 200 and apart.num_steps == 1


def test_a_curriculum_shows_where_its_stages_begin():
    rows = [{"step": step, "loss": 1.0, "stage": 1 + (step > 3)} for step in range(1, 8)]
    assert _only(rows).stages == (3.0,)


def test_a_loss_that_is_no_number_leaves_a_curve_that_can_be_drawn():
    drawing = training_curves(_only([*_rows(5), {"step": 6, "loss": math.nan, "learning_rate": 1e-4}]))
    assert "nan" not in drawing
    ElementTree.fromstring(f"<svg>{drawing}</svg>")


def test_curves_stay_in_their_frame():
    training = _only([*_pairs(50), {"step": 25, "validation_loss": 0.9}])
    drawing = training_curves(training)
    lines = re.findall(r'points="([^"]+)"', drawing)
    points = [tuple(map(float, pair.split(","))) for line in lines for pair in line.split()]
    assert len(points) == 11 * 50 + 1
    assert all(0 <= x <= CURVE_WIDTH and 0 <= y <= training_height(training) for x, y in points)


def test_drawings_say_what_their_axes_are():
    drawing = training_curves(_only([*_pairs(50), {"step": 25, "validation_loss": 0.9}]))
    for words in (
        "loss (nats per pair)",
        "learning rate",
        "optimizer step",
        "train",
        "validation",
        "chosen",
        "rejected",
    ):
        assert f">{words}<" in drawing
