"""Comparisons of curricula: the order is one factor, an unequal length another, and a stage may see too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from lettered_rows import only
from sightline.checking.findings import Finding
from sightline.checking.plans import check_budgets, check_comparisons, check_members, check_share_seen
from sightline.study import Plan, load_study, plan_study

STUDY = """
base: builtin:tiny
data:
  a: {source: a.csv, split: {train: 0.5, test: 0.5}}
  b: {source: b.csv, split: {train: 0.5, test: 0.5}}
evaluate: {on: a.test}
steps:
  s: {on: a.train, max_steps: 8, members: {MEMBERS}}
compare: [{model: s.x, against: s.y}]
"""
OPEN, CLOSED = "where: {answer_type: OPEN}", "where: {answer_type: CLOSED}"


def plan(folder: Path, x: str, y: str = "{}") -> Plan:
    file = folder / "study.yaml"
    file.write_text(STUDY.replace("MEMBERS", f"x: {x}, y: {y}"), encoding="utf-8")
    return plan_study(load_study(file))


def compared(made: Plan) -> list[Finding]:
    return list(check_comparisons(made.comparisons, made.runs, dict.fromkeys(made.models, "builtin:tiny")))


def stages(*parts: str, more: str = "") -> str:
    return f"{{stages: [{', '.join(f'{{{part}}}' for part in parts)}]{more}}}"


ONE_FACTOR = {
    "an order against another": (
        stages(f"{OPEN}, max_steps: 3", f"{CLOSED}, max_steps: 5"),
        stages(f"{CLOSED}, max_steps: 5", f"{OPEN}, max_steps: 3"),
    ),
    "an order against all mixed": (stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4"), "{}"),
    "a part against all mixed": (stages(f"{OPEN}, max_steps: 8"), "{}"),
    "what is carried over": (
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4", more=", carry_over: weights"),
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4"),
    ),
    "how long each stage is": (
        stages(f"{OPEN}, max_steps: 2", f"{CLOSED}, max_steps: 6"),
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4"),
    ),
    "passes, whose length the data will tell": (stages(f"{OPEN}, epochs: 2", f"{CLOSED}, epochs: 2"), "{}"),
}


@pytest.mark.parametrize(("x", "y"), ONE_FACTOR.values(), ids=ONE_FACTOR)
def test_a_list_of_stages_is_one_factor(tmp_path: Path, x: str, y: str) -> None:
    assert compared(plan(tmp_path, x, y)) == []


SEVERAL = {
    "order and length": (
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 5"),
        "{}",
        {"data", "length of training"},
    ),
    "order and learning rate": (
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4", more=", learning_rate: 1e-3"),
        "{}",
        {"data", "learning_rate"},
    ),
    "order and what is carried over": (
        stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4", more=", carry_over: weights"),
        stages(f"{CLOSED}, max_steps: 4", f"{OPEN}, max_steps: 4"),
        {"data", "carry_over"},
    ),
}


@pytest.mark.parametrize(("x", "y", "factors"), SEVERAL.values(), ids=SEVERAL)
def test_several_factors_are_named(tmp_path: Path, x: str, y: str, factors: set[str]) -> None:
    finding = only(iter(compared(plan(tmp_path, x, y))))
    assert (finding.name, finding.severity) == ("several-factors-changed", "fault")
    assert finding.evidence["factors"].keys() == factors


def test_stages_are_told_in_words(tmp_path: Path) -> None:
    made = plan(tmp_path, stages(f"{OPEN}, max_steps: 4", "on: [a.train, b.train], max_steps: 5"))
    assert compared(made)[0].evidence["factors"]["data"] == (
        "a.train where answer_type OPEN, then a.train+b.train and a.train"
    )


def test_unequal_steps_are_a_fault_where_an_order_is_compared(tmp_path: Path) -> None:
    made = plan(tmp_path, stages(f"{OPEN}, epochs: 2", f"{CLOSED}, epochs: 2"))
    assert list(check_budgets(made.comparisons, made.runs, {"s.x": 8, "s.y": 8})) == []
    finding = only(check_budgets(made.comparisons, made.runs, {"s.x": 1014, "s.y": 8}))
    assert (finding.name, finding.severity) == ("several-factors-changed", "fault")
    assert finding.message == (
        "s.x against s.y: trained for 1,014 and 8 optimizer steps, on different data, so a difference may come from "
        "either"
    )
    assert finding.evidence["num_steps"] == [1014, 8]


def test_unequal_steps_are_a_warning_where_one_set_is_larger_than_another(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    steps = "{x: {on: a.train, epochs: 2}, y: {on: b.train, epochs: 2}}"
    head, _ = STUDY.split("steps:\n")
    file.write_text(f"{head}steps: {steps}\ncompare: [{{model: x, against: y}}, {{model: x}}]\n", encoding="utf-8")
    made = plan_study(load_study(file))
    finding = only(check_budgets(made.comparisons, made.runs, {"x": 10, "y": 20}))
    assert (finding.severity, finding.evidence["num_steps"]) == ("warning", [10, 20])


def test_unequal_steps_are_said_once_or_are_the_question(tmp_path: Path) -> None:
    steps = {"s.x": 9, "s.y": 8}
    told = plan(tmp_path, stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 5"))
    assert list(check_budgets(told.comparisons, told.runs, steps)) == []
    longer = plan(tmp_path, "{max_steps: 9}")
    assert [*compared(longer), *check_budgets(longer.comparisons, longer.runs, steps)] == []
    batches = plan(tmp_path, "{batch_size: 8, epochs: 2}", "{epochs: 2}")
    assert [*compared(batches), *check_budgets(batches.comparisons, batches.runs, {"s.x": 16, "s.y": 8})] == []


def test_what_one_stage_carries_over_makes_no_other_model(tmp_path: Path) -> None:
    finding = only(check_members(plan(tmp_path, "{carry_over: weights}").runs))
    assert finding.evidence["models"] == ["s.x", "s.y"]
    two = stages(f"{OPEN}, max_steps: 4", f"{CLOSED}, max_steps: 4")
    assert list(check_members(plan(tmp_path, two, two.replace("]}", "], carry_over: weights}")).runs)) == []


def test_a_curriculum_is_measured_by_the_rows_its_stages_are_about(tmp_path: Path) -> None:
    run, _ = plan(tmp_path, stages(f"{OPEN}, max_steps: 2", f"{CLOSED}, epochs: 0.5")).runs
    finding = only(check_share_seen([run], {run.name: (80, 40)}))
    # By hand: two steps of 16 rows, and half of 40.
    assert "2 steps of 16 rows, then 0.5 epochs see 52 of 120 rows" in finding.message
    assert list(check_share_seen([run], {run.name: (60, 40)})) == []
    # More passes over a short stage do not make up for a long one.
    run, _ = plan(tmp_path, stages(f"{OPEN}, max_steps: 2", f"{CLOSED}, epochs: 20")).runs
    assert only(check_share_seen([run], {run.name: (200, 10)})).evidence == {"num_seen": 42, "num_rows": 210}
