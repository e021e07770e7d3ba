"""Equivalence and non-inferiority: what a margin, stated beforehand, adds to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from sightline.errors import StudyError
from sightline.scoring.metrics import METRICS
from sightline.verdict.compare import Comparison
from sightline.verdict.findings import Adjusted, adjust, finding, verdict
from sightline.verdict.margins import MarginTests
from sightline.verdict.pairs import Difference

Compare = Callable[..., dict[str, Any]]
ACCURACY, NLL = METRICS["closed_accuracy"], METRICS["nll"]


def asked(margin: float) -> list[Comparison]:
    return [Comparison(model="sft", against="base", margin=margin)]


def flips(*, fixed: int, broke: int, both: int) -> dict[str, list[int]]:
    return {"base": [0] * fixed + [1] * (broke + both), "sft": [1] * fixed + [0] * broke + [1] * both}


def ask(compare: Compare, margin: float, images: Sequence[int] = range(400), **numbers: int) -> dict[str, Any]:
    (entry,) = compare(flips(**numbers), images=images, stated=asked(margin))["stated"]
    return entry


def test_two_one_sided_tests_agree_with_statsmodels(compare: Compare) -> None:
    entry = ask(compare, 0.04, fixed=12, broke=9, both=379)
    values = flips(fixed=12, broke=9, both=379)
    both, low, _ = ttost_paired(np.array(values["sft"]), np.array(values["base"]), -0.04, 0.04)
    assert entry["margin"]["p_equivalent"] == pytest.approx(both, abs=1e-10)
    assert entry["margin"]["p_not_worse"] == pytest.approx(2 * low[1], abs=1e-10)
    low_90, high_90 = entry["margin"]["interval"]
    assert entry["interval"][0] < low_90 < entry["difference"] < high_90 < entry["interval"][1]


def test_equivalent_where_the_90_percent_interval_lies_inside(compare: Compare) -> None:
    entry = ask(compare, 0.04, fixed=12, broke=9, both=379)
    assert entry["verdict"] == "equivalent"
    assert entry["sentence"] == (
        "equivalent within ±4.0 points: +0.8 points (90% CI -1.1 to +2.6), 400 questions on 400 images; "
        "fixed 12, broke 9."
    )
    assert entry["margin"]["interval"][0] > -0.04 and entry["margin"]["interval"][1] < 0.04


def test_not_worse_where_only_the_better_side_reaches_beyond(compare: Compare) -> None:
    entry = ask(compare, 0.02, fixed=30, broke=22, both=348)
    assert entry["interval"][0] > -0.02 and entry["margin"]["interval"][1] > 0.02
    assert entry["verdict"] == "not worse"
    assert entry["sentence"].startswith("not worse than base by 2.0 points: +2.0 points (95% CI -1.5 to +5.5), 400 ")
    assert "better" in entry["sentence"].split(". ")[-1]


def test_open_where_the_interval_reaches_the_margin(compare: Compare) -> None:
    entry = ask(compare, 0.01, fixed=30, broke=22, both=348)
    assert entry["interval"][0] < -0.01
    assert entry["verdict"] == "no detectable difference"
    assert "Whether it is worse by 1.0 points or more is open." in entry["sentence"]
    assert entry["num_groups_needed"] == pytest.approx(400 * (entry["detectable"] / entry["difference"]) ** 2, abs=1)


def test_small_but_there(compare: Compare) -> None:
    entry = ask(compare, 0.1, fixed=20, broke=2, both=378)
    assert entry["sentence"].startswith(
        "significant but smaller than your margin: +4.5 points (95% CI +2.2 to +6.8), adjusted p < .001, margin 10.0 "
        "points: equivalent within ±10.0 points; "
    )
    worse = ask(compare, 0.06, fixed=2, broke=20, both=378)
    assert worse["verdict"] == "significant but smaller than your margin"
    assert "margin 6.0 points: whether the difference reaches 6.0 points is open;" in worse["sentence"]


def test_beyond_the_margin_it_is_improved_or_regressed(compare: Compare) -> None:
    assert ask(compare, 0.04, fixed=20, broke=2, both=378)["verdict"] == "improved"
    assert ask(compare, 0.04, fixed=2, broke=20, both=378)["verdict"] == "regressed"


def test_a_loss_is_worse_where_it_is_higher(compare: Compare) -> None:
    generator = np.random.default_rng(3)
    base = generator.gamma(2.0, 0.5, size=80)
    sft = base + generator.normal(0.03, 0.1, size=80)
    values = {name: [{"nll": float(x), "tokens": 1.0} for x in row] for name, row in (("base", base), ("sft", sft))}
    found = {
        margin: compare(values, images=range(80), metric=NLL, stated=asked(margin))["stated"][0]
        for margin in (0.02, 0.2)
    }
    assert found[0.2]["margin"]["not_worse"] and not found[0.02]["margin"]["not_worse"]
    better = {"base": values["sft"], "sft": values["base"]}
    (entry,) = compare(better, images=range(80), metric=NLL, stated=asked(0.02))["stated"]
    assert entry["margin"]["not_worse"]


def test_a_ratio_on_few_images_keeps_no_margin(compare: Compare) -> None:
    generator = np.random.default_rng(4)
    base = generator.gamma(2.0, 0.5, size=90)
    values = {
        name: [{"nll": float(x), "tokens": 1.0} for x in row]
        for name, row in (("base", base), ("sft", base + generator.normal(0, 0.01, size=90)))
    }
    many, few = (
        compare(values, images=[n % images for n in range(90)], metric=NLL, stated=asked(0.1))["stated"][0]
        for images in (30, 15)
    )
    assert many["verdict"] == "equivalent" and few["verdict"] == "no detectable difference"


def test_unparsed_answers_must_not_reach_beyond_the_margin(compare: Compare) -> None:
    values = {
        model: [*row, *[unread] * 20]
        for (model, row), unread in zip(flips(fixed=12, broke=9, both=379).items(), (0, "unparsed"), strict=True)
    }
    (entry,) = compare(values, images=range(420), stated=asked(0.04))["stated"]
    assert entry["by_rule"]["bounds"][1] > 0.04
    assert (entry["verdict"], entry["reason"]) == ("borderline", "depends on how invalid answers are counted")


def test_a_margin_in_points_is_refused(compare: Compare) -> None:
    with pytest.raises(StudyError, match=r"write 0\.03 for 3 points"):
        ask(compare, 3, fixed=20, broke=2, both=378)


def test_the_same_question_is_not_asked_again_without_its_margin(compare: Compare) -> None:
    compared = compare(flips(fixed=20, broke=2, both=378), images=range(400), stated=asked(0.1))
    assert compared["exploratory"] == []


def difference(**changes: Any) -> Difference:
    numbers: dict[str, Any] = {
        "value": 0.01,
        "interval": (-0.01, 0.03),
        "standard_error": 0.01,
        "degrees_of_freedom": 99,
        "p": 0.3,
        "p_check": 0.3,
        "p_check_method": "sign-flip",
        "method": "",
        "num_questions": 100,
        "num_groups": 100,
    }
    return Difference(**numbers | changes)


def test_a_question_with_a_margin_takes_one_share_of_alpha() -> None:
    margin = MarginTests(0.02, (-0.005, 0.025), 0.01, 0.2, 0.012, 0.21)
    first, second = adjust([difference(margin=margin), difference(p=0.02, p_check=0.03)])
    assert first.p_not_worse == pytest.approx(0.02) and first.p_check_not_worse == pytest.approx(0.024)
    assert second.p == pytest.approx(0.04) and second.p_check == pytest.approx(0.06)
    assert first.not_worse and not first.equivalent


def test_a_neutral_metric_changes_and_is_never_better_or_worse() -> None:
    metric = METRICS["yes_ratio"]
    sure = Adjusted(p=0.001, p_check=0.001, p_not_worse=0.001, p_check_not_worse=0.001)
    assert finding(difference(), sure, metric=metric, num_runs=1) == "changed"
    unsure = sure._replace(p=0.3, p_check=0.3)
    assert finding(difference(), unsure, metric=metric, num_runs=1) == "no detectable difference"
    assert finding(difference(), unsure, metric=ACCURACY, num_runs=1) == "not worse"


@pytest.mark.parametrize(
    ("primary", "bounds", "expected"),
    [
        ("improved", (-0.01, 0.03), "borderline"),
        ("improved", (0.01, 0.03), "improved"),
        ("equivalent", (-0.01, 0.019), "equivalent"),
        ("equivalent", (-0.01, 0.021), "borderline"),
        ("not worse", (-0.019, 0.09), "not worse"),
        ("not worse", (-0.021, 0.0), "borderline"),
        ("no detectable difference", (-0.5, 0.5), "no detectable difference"),
    ],
)
def test_bounds(primary: Any, bounds: tuple[float, float], expected: str) -> None:
    findings: dict[Any, Any] = {"wrong": primary, "left_out": primary}
    assert verdict(findings, bounds, metric=ACCURACY, margin=0.02)[0] == expected
