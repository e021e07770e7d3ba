"""Verdicts as a reader meets them: nothing of a sentence is lost, and one axis serves all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from report.fake_study import write_study
from sightline.report.build import build_report
from sightline.report.reading import read_study
from sightline.report.sides import side_by_side
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
    page = unescape(build_report(study, with_figures=False).read_text(encoding="utf-8"))
    assert all(run.sentence in page for run in view.checkpoints)
    assert page.count('class="verdict checkpoint"') == 3


def test_losses_and_rates_have_axes_of_their_own(study: Path):
    compare = json.loads((study / "compare.json").read_text())
    groups = verdict_groups(compare, compare["exploratory"], y=15, by_metric=True)
    units = {group.title: (group.unit, group.direction) for group in groups}
    assert units == {
        "Closed-question accuracy": ("points", "higher is better"),
        "Reference answer loss": ("nats", "lower is better"),
    }


def _changed(study: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    compare = json.loads((copy / "compare.json").read_text())
    change(compare)
    (copy / "compare.json").write_text(json.dumps(compare), encoding="utf-8")
    return copy


def test_where_neither_direction_is_better_nothing_is_right_fixed_or_broken(study: Path, tmp_path: Path):
    def neutral(compare: dict[str, Any]) -> None:
        entries = [*compare["stated"], *compare["stated"][0]["checkpoints"], *compare["exploratory"]]
        measured = [arm["metrics"]["exact_match"] for arm in compare["arms"]]
        for each in (*measured, *(entry for entry in entries if entry["metric"] == "exact_match")):
            each["neutral"] = True

    copy = _changed(study, tmp_path, neutral)
    compare = json.loads((copy / "compare.json").read_text())
    (group,) = verdict_groups(compare, compare["stated"], y=30)
    assert group.direction == "neither direction is better" and group.views[0].fixed == "–"
    assert "fixed" not in dict(group.views[0].facts)
    page = build_report(copy, with_figures=False).read_text(encoding="utf-8")
    said = (copy / "report.md").read_text(encoding="utf-8")
    assert "**Exact match** (%, neither direction is better)" in said
    assert "difference in points, neither direction is better" in page
    side = side_by_side(read_study(copy))
    assert not any(set(row.flips) & set(range(side.num_stated)) for row in side.rows)
    assert not any({"r", "w"} & set(row.marks["exact_match"]) for row in side.rows)


def test_what_stands_in_short_says_what_is_needed_to_read_it(study: Path, tmp_path: Path):
    def few(compare: dict[str, Any]) -> None:
        tests = {"p_adjusted": 0.0004, "p_check_adjusted": 0.0625, "p_check_method": "sign-flip"}
        compare["exploratory"][0] |= {"verdict": "borderline", "reason": "the two tests disagree", **tests}
        compare["exploratory"][0] |= {"num_images": 5, "num_groups": 5}
        nothing = dict.fromkeys(
            ("difference", "interval", "p", "p_adjusted", "p_check", "detectable", "fixed", "margin")
        )
        compare["stated"][0] |= {"verdict": "cannot decide", "num_questions": None, **nothing, "unparsed": {}}

    copy = _changed(study, tmp_path, few)
    study_file = copy / "study.yaml"
    text = study_file.read_text(encoding="utf-8")
    assert "seeds: [0]" in text and "source: builtin:phantom" in text
    text = text.replace("seeds: [0]", "seeds: []").replace("source: builtin:phantom", "source: photos")
    study_file.write_text(text, encoding="utf-8")
    page = unescape(build_report(copy, with_figures=False).read_text(encoding="utf-8"))
    said = (copy / "report.md").read_text(encoding="utf-8").replace("\\", "")
    why = (
        "the two tests disagree: adjusted p < .001, by the sign-flip check = .062 on 5 images, and that check needs 6 "
        "at the least"
    )
    assert why in page and f"borderline: {why}" in said
    assert "\n.\n" not in said
    assert "**Seeds**" not in said and "<h3>Seeds</h3>" not in page
    assert "| better on | worse on |" in said and "| fixed | broke |" not in said
    assert all("none of its numbers mean anything" in each for each in (page, said))


def test_what_people_say_stands_beside_what_was_judged(study: Path, tmp_path: Path):
    place = {"data": "d", "template": "plain", "metric": "exact_match"}

    def labelled(compare: dict[str, Any]) -> None:
        found = {"value": 0.6, "interval": [0.5, 0.7], "num_labels": 60, "reason": "", "headline": True}
        few = {"value": None, "interval": None, "num_labels": 7, "reason": "labels on 4 images", "headline": False}
        told = {"title": "t", "sentence": "+2.0 points by people."}
        data = compare["arms"][0]["data"]
        compare["people"] = [
            {"kind": "model", "model": "base", **place, "data": data, **found, **told},
            {"kind": "model", "model": "sft@0", **place, "data": data, **few, **told},
            {"kind": "difference", "model": "sft@0", "against": "base", **place, "data": data, **found, **told},
        ]

    copy = _changed(study, tmp_path, labelled)
    page = unescape(build_report(copy, with_figures=False).read_text(encoding="utf-8"))
    said = (copy / "report.md").read_text(encoding="utf-8")
    assert page.count("By people</th>") == 1 and page.count("With people’s labels") == 1
    assert '<td class="num people lead">60.0<span class="sure">50.0 to 70.0; 60 labels</span>' in page
    assert '<td class="num people">–<span class="sure">labels on 4 images; 7 labels</span>' in page
    assert "| 60.0 | 50.0 to 70.0; 60 labels |" in said and "With people's labels: \\+2.0 points by people." in said
    table = (copy / "tables" / "results.csv").read_text(encoding="utf-8")
    assert "Value corrected by people" in table and ",0.6,0.5,0.7,60" in table
