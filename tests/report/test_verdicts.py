"""Verdicts as a reader meets them: nothing of a sentence is lost, and one axis serves all."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pytest

from report.fake_study import write_study
from sightline.report.build import build_report
from sightline.report.verdicts import rest_of_sentence, tone_of, verdict_groups


@pytest.mark.parametrize(
    ("verdict", "sentence", "rest"),
    [
        ("improved", "improved: +6.7 points (95% CI +3.8 to +9.6).", "+6.7 points (95% CI +3.8 to +9.6)."),
        ("regressed", "regressed: -6.7 points (95% CI -9.6 to -3.8).", "−6.7 points (95% CI −9.6 to −3.8)."),
        ("regressed", "regressed: −6.7 points.", "−6.7 points."),
        ("improved", "Improved by alpha-16 and run-2.", "by alpha-16 and run-2."),
        ("cannot decide", "4 images", "4 images"),
        ("borderline", "borderline", "borderline"),
    ],
)
def test_a_sentence_loses_its_verdict_and_nothing_else(verdict: str, sentence: str, rest: str):
    assert rest_of_sentence(verdict, sentence) == rest


def test_only_improvement_is_good_and_only_regression_is_bad():
    verdicts = ["improved", "regressed", "no detectable difference", "borderline", "cannot decide", "trade-off"]
    assert [tone_of(verdict) for verdict in verdicts] == ["good", "bad", "plain", "plain", "plain", "plain"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = {"base": 0.4, "sft@0": 0.7, "sft@1": 0.8, "sft@2": 0.6}
    return write_study(tmp_path_factory.mktemp("seeds"), models=models, stated=["sft"])


def test_a_recipe_shows_each_of_its_runs(study: Path):
    compare = json.loads((study / "compare.json").read_text())
    (group,) = verdict_groups(compare, compare["stated"], y=30)
    (view,) = group.views
    assert view.model == "sft"
    assert [run.model for run in view.checkpoints] == ["sft@0", "sft@1", "sft@2"]
    page = unescape(build_report(study).read_text(encoding="utf-8"))
    assert all(run.sentence in page for run in view.checkpoints)
    assert page.count('class="verdict checkpoint"') == 3


def test_losses_and_rates_have_axes_of_their_own(study: Path):
    compare = json.loads((study / "compare.json").read_text())
    groups = verdict_groups(compare, compare["exploratory"], y=15, by_metric=True)
    units = {group.title: (group.unit, group.higher_is_better) for group in groups}
    assert units == {
        "Closed-question accuracy": ("points", True),
        "Reference answer loss": ("nats", False),
    }
