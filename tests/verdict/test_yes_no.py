"""Sensitivity and criterion of yes/no sets, and verdicts on parts that move oppositely."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sightline.scoring.metrics import METRICS
from sightline.verdict.yes_no import COMPONENTS, criterion, sensitivity

Compare = Callable[..., dict[str, Any]]
POPE = METRICS["pope_accuracy"]

HA_DPO = {
    "random": ((1360, 172, 140, 1328), (1315, 99, 185, 1401)),
    "popular": ((1360, 274, 140, 1226), (1315, 178, 185, 1322)),
    "adversarial": ((1360, 467, 140, 1033), (1315, 371, 185, 1129)),
}
"""tp, fp, fn, tn before and after, as HA-DPO's published rates (Zhao et al. 2023, table 1) allow them."""


def parts(table: tuple[int, int, int, int]) -> dict[str, float]:
    return dict(zip(("tp", "fp", "fn", "tn"), map(float, table), strict=True))


@pytest.mark.parametrize(
    ("name", "gain", "before", "after"),
    [("random", 0.142, -0.06, 0.17), ("popular", 0.114, -0.21, 0.01), ("adversarial", 0.029, -0.41, -0.24)],
)
def test_ha_dpo_says_no_more_often_rather_than_seeing_better(
    name: str, gain: float, before: float, after: float
) -> None:
    base, tuned = map(parts, HA_DPO[name])
    assert sensitivity(tuned) - sensitivity(base) == pytest.approx(gain, abs=0.001)
    assert (criterion(base), criterion(tuned)) == pytest.approx((before, after), abs=0.006)


def test_by_hand() -> None:
    # 30 of 40 and 10 of 50, half an answer added to each cell.
    hits, false_alarms = stats.norm.ppf(30.5 / 41), stats.norm.ppf(10.5 / 51)
    table = {"tp": 30.0, "fn": 10.0, "fp": 10.0, "tn": 40.0}
    assert sensitivity(table) == pytest.approx(hits - false_alarms)
    assert criterion(table) == pytest.approx(-(hits + false_alarms) / 2)
    arrays = {cell: np.array([count, 0.0]) for cell, count in table.items()}
    assert sensitivity(arrays) == pytest.approx([hits - false_alarms, math.nan], nan_ok=True)
    assert math.isfinite(sensitivity({"tp": 40.0, "tn": 50.0}))
    assert math.isnan(sensitivity({"tp": 40.0, "fn": 1.0}))


def answers(*, hits: int, misses: int, false_yes: int, right_no: int) -> list[float]:
    """Right or wrong, yes-questions first."""
    return [1.0] * hits + [0.0] * misses + [0.0] * false_yes + [1.0] * right_no


REFERENCES = ["yes"] * 200 + ["no"] * 200
BASE = answers(hits=190, misses=10, false_yes=80, right_no=120)


def compared(compare: Compare, sft: list, base: list = BASE, images: Any = range(400)) -> dict[str, Any]:
    return compare({"base": base, "sft": sft}, images=images, metric=POPE, answers=REFERENCES)


def test_components_by_hand(compare: Compare) -> None:
    result = compared(compare, answers(hits=170, misses=30, false_yes=44, right_no=156))
    (apart,) = result["yes_no"]
    components = {entry["metric"]: entry for entry in apart["components"]}
    assert list(components) == list(COMPONENTS)
    assert components["recall"]["difference"] == pytest.approx(-0.10)
    assert components["specificity"]["difference"] == pytest.approx(0.18)
    assert components["yes_ratio"]["difference"] == pytest.approx((170 + 44 - 190 - 80) / 400)
    assert components["yes_ratio"]["verdict"] == components["criterion"]["verdict"] == "changed"
    base, sft = parts((190, 80, 10, 120)), parts((170, 44, 30, 156))
    assert components["d_prime"]["difference"] == pytest.approx(sensitivity(sft) - sensitivity(base))
    p = [entry["p_adjusted"] for entry in components.values()]
    assert p != [entry["p"] for entry in components.values()] and all(
        adjusted >= entry["p"] for adjusted, entry in zip(p, components.values(), strict=True)
    )


def test_parts_that_move_oppositely_are_a_trade_off(compare: Compare) -> None:
    result = compared(compare, answers(hits=180, misses=20, false_yes=54, right_no=146))
    (entry,), (apart,) = result["stated"], result["yes_no"]
    assert entry["verdict"] == "trade-off"
    assert entry["sentence"].startswith("trade-off: fewer false yes: -13.0 points (95% CI ")
    for said in ("more missed yes: recall -5.0 points (95% CI -8.", "d': no detectable difference", "by itself: "):
        assert said in entry["sentence"]
    assert apart["trade_off"] in apart["sentence"] and "share of yes -9.0 points" in apart["sentence"]


def test_where_discrimination_follows_the_metric_its_verdict_stands(compare: Compare) -> None:
    # From always yes to nearly always right: recall falls a little, and that is no reason not to say "improved".
    always_yes = answers(hits=200, misses=0, false_yes=200, right_no=0)
    (entry,) = compared(compare, answers(hits=180, misses=20, false_yes=20, right_no=180), always_yes)["stated"]
    assert entry["verdict"] == "improved"
    assert "Its parts moved oppositely: fewer false yes: -90.0 points" in entry["sentence"]


def test_parts_that_move_together_are_none(compare: Compare) -> None:
    result = compared(compare, answers(hits=197, misses=3, false_yes=20, right_no=180))
    assert result["yes_no"][0]["trade_off"] == ""
    assert result["stated"][0]["verdict"] == "improved" and "oppositely" not in result["stated"][0]["sentence"]


def test_an_unparsed_answer_is_no_yes_and_must_not_decide(compare: Compare) -> None:
    sft = ["unparsed" if n % 10 == 0 else right for n, right in enumerate(BASE)]
    (apart,) = compared(compare, sft)["yes_no"]
    components = {entry["metric"]: entry for entry in apart["components"]}
    # Of 40 unread, 20 to yes-questions of which 19 were hits, and 20 to no-questions of which 8 were false alarms.
    assert (sum(BASE[:200:10]), sum(BASE[200::10])) == (19, 12)
    assert components["recall"]["difference"] == pytest.approx(-19 / 200)
    assert components["recall"]["verdict"] == "borderline"
    assert components["specificity"]["difference"] == pytest.approx(-12 / 200)
    assert components["yes_ratio"]["difference"] == pytest.approx((-19 - 8) / 400)


def test_unread_answers_are_no_right_no_and_leave_no_d_prime(compare: Compare) -> None:
    # Six of 12 no-questions rightly refused, then 12 of all 16 unread: no no was said, and none may be counted.
    references = ["yes"] * 4 + ["no"] * 12
    values = {"base": [1] * 4 + [1] * 6 + [0] * 6, "sft": [1] * 4 + ["unparsed"] * 12}
    apart = compare(values, images=range(16), metric=POPE, answers=references)["yes_no"][0]
    components = {entry["metric"]: entry for entry in apart["components"]}
    assert components["specificity"]["difference"] == pytest.approx(-0.5)
    assert components["yes_ratio"]["difference"] == pytest.approx(4 / 16 - 10 / 16)
    for name in ("d_prime", "criterion"):
        assert (components[name]["difference"], components[name]["reason"]) == (None, "unread answers > 5%")
    assert (
        "sensitivity d' and criterion c cannot decide (unread answers > 5%: 12 of 16 answers by sft and 0 of 16 "
        "answers by base say neither yes nor no)"
    ) in apart["sentence"]


def test_no_trade_off_is_claimed_without_d_prime(compare: Compare) -> None:
    sft: list[Any] = answers(hits=120, misses=58, false_yes=10, right_no=190)
    sft[120:120] = ["unparsed"] * 22  # of 400: too many for d'
    (entry,) = compared(compare, sft)["stated"]
    assert entry["verdict"] != "trade-off" and "Its parts moved oppositely: fewer false yes" in entry["sentence"]


def test_a_few_unread_answers_are_wrong_in_d_prime_on_both_sides(compare: Compare) -> None:
    sft = ["unparsed", *BASE[1:-1], "unparsed"]  # a hit and a right no
    components = {entry["metric"]: entry for entry in compared(compare, sft)["yes_no"][0]["components"]}
    z = stats.norm.ppf
    before, after = z(190.5 / 201) - z(80.5 / 201), z(189.5 / 201) - z(81.5 / 201)
    assert components["d_prime"]["difference"] == pytest.approx(after - before)


def test_a_set_without_a_false_yes_left_has_its_difference(compare: Compare) -> None:
    references = ["yes", "no"] * 12
    values = {"base": [1, 0] * 12, "sft": [1, 1] * 12}
    apart = compare(values, images=[n // 2 for n in range(24)], metric=POPE, answers=references)["yes_no"][0]
    assert "specificity cannot decide (no interval: +100.0 points" in apart["sentence"]
    assert "recall cannot decide (no variation: both models have the same value" in apart["sentence"]


def test_open_questions_and_sets_without_a_no_are_not_taken_apart(compare: Compare) -> None:
    values = {"base": BASE, "sft": BASE[::-1]}
    assert compare(values, images=range(400), metric=POPE)["yes_no"] == []
    none = compare(values, images=range(400), metric=METRICS["exact_match"], answers=REFERENCES)
    assert none["yes_no"] == []


def test_confusion_tables_serve_where_accuracy_was_not_measured(compare: Compare) -> None:
    def cells(row: list[float]) -> list[dict[str, float]]:
        names = {("yes", 1.0): "tp", ("yes", 0.0): "fn", ("no", 1.0): "tn", ("no", 0.0): "fp"}
        return [{names[key]: 1.0} for key in zip(REFERENCES, row, strict=True)]

    sft = answers(hits=180, misses=20, false_yes=54, right_no=146)
    rows = {"base": cells(BASE), "sft": cells(sft)}
    by_table = compare(rows, images=range(400), metric=METRICS["pope_f1"], answers=REFERENCES)["yes_no"]
    by_accuracy = compared(compare, sft)["yes_no"]
    for one, other in itertools.zip_longest(by_table[0]["components"], by_accuracy[0]["components"]):
        assert (one["difference"], one["interval"]) == (other["difference"], other["interval"])
